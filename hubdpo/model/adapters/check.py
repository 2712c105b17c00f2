"""Check, before a base is fetched or built, that an adapter's config asks for no more than its weights hold.

PEFT makes room for every rank, token and module that adapter_config.json names, and compares it with the weights only
afterwards, if the memory was there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hubdpo.artefacts.folders.model_files import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from hubdpo.artefacts.formats.bounded import JsonObject, shortened
from hubdpo.artefacts.formats.safetensors_header import read_shapes
from hubdpo.errors import ArtefactError
from hubdpo.hub.client import called
from hubdpo.model.adapters import trial
from hubdpo.model.adapters.trial import Patterns, try_patterns
from hubdpo.model.untrusted import read_json

FROM_THE_BASE = ("pissa", "olora")
"""Beginnings of `init_lora_weights` whose adapters are differences to the base, which PEFT decomposes while it loads
them."""
MOST_ITERATIONS = 64
MOST_ALPHA = 1_000_000
"""Largest scale of an adapter before it is divided by the rank. Tens are usual, and at 10^39 every answer is NaN."""
MOST_NAMES, MOST_PATTERNS = 5_000, 1_000
"""Names in one list of modules, and modules that are saved or have a rank or alpha of their own. PEFT compares every
name with every other, and compiles every pattern anew for every module."""
_LEARNED = re.compile(r"[.](?:lora_|trainable_tokens)")
_NAME_FIELDS: dict[str, tuple[type, ...]] = {
    "target_modules": (str, list), "exclude_modules": (str, list), "layers_pattern": (str, list),
    "modules_to_save": (list,), "target_parameters": (list,),
}  # fmt: skip


@dataclass(frozen=True)
class CheckedAdapter:
    """The config of an adapter folder, and the shapes of its weights by tensor name."""

    folder: Path
    config: JsonObject
    shapes: Mapping[str, tuple[int, ...]]

    @property
    def modules(self) -> list[str]:
        """The names of the modules that the weights are for."""
        return sorted({name.partition(".lora_")[0].removeprefix("base_model.model.") for name in self.shapes})

    @property
    def is_built_in_full(self) -> bool:
        """Whether PEFT needs memory for all that the config asks for before it reads the weights.

        It decomposes the base for some adapters, and it cannot copy layers of the base without their memory.
        """
        from_base = str(self.config.get("init_lora_weights")).lower().startswith(FROM_THE_BASE)
        return from_base or bool(self.config.get("layer_replication"))


def check_adapter_files(folder: Path) -> CheckedAdapter:
    """Read the config and the weights' header of an adapter, and check one against the other.

    Raise ArtefactError, naming the field, its value and the limit; for an adapter that is not LoRA; for weights that
    are not safetensors.
    """
    name = called(folder)
    if not (folder / ADAPTER_WEIGHTS).is_file():
        raise ArtefactError(
            f"`{name}` has no {ADAPTER_WEIGHTS}, and weights in any other form are not opened",
            hint="ask its owner for a revision with safetensors",
        )
    config, shapes = read_json(folder / ADAPTER_CONFIG), read_shapes(folder / ADAPTER_WEIGHTS)
    if config.get("peft_type") != "LORA":
        raise ArtefactError(
            f"`{name}` is of peft_type {str(config.get('peft_type'))[:40]!r}, and hubdpo loads LoRA alone",
            hint="load it with PEFT itself",
        )
    adapter = CheckedAdapter(folder, config, shapes)
    with _errors_name(name):
        _check_names(config)
        _check_numbers(config)
        _check_iterations(config)
        _check_ranks(adapter)
        _check_tokens_and_layers(adapter)
        _try_patterns(config, adapter.modules)
    return adapter


def check_on_base(adapter: CheckedAdapter, base_modules: Sequence[str]) -> None:
    """Check an adapter against the names of its base's modules.

    Raise ArtefactError when matching its patterns takes longer than the time that `check_adapter_files` left, or when
    PEFT would copy modules of which the weights hold nothing.
    """
    with _errors_name(called(adapter.folder)):
        seconds = _try_patterns(adapter.config, adapter.modules)  # not run again: the result is remembered
        _try_patterns(adapter.config, base_modules, seconds=trial.SECONDS - seconds)
        saved = "\n".join(f".{name}" for name in adapter.shapes if not _LEARNED.search(name))
        for name in adapter.config.get("modules_to_save") or ():
            if f".{name}." not in saved and any(module.endswith(name) for module in base_modules):
                raise _refused("modules_to_save", name, f"{ADAPTER_WEIGHTS} holds nothing of it")


@contextmanager
def _errors_name(name: str) -> Iterator[None]:
    """Begin the message of an ArtefactError in the body with the adapter's name."""
    try:
        yield
    except ArtefactError as problem:
        hint = f"hubdpo inspect {name}, and tell its owner"
        raise ArtefactError(f"`{name}`: {problem.message}", hint=hint) from None


def _try_patterns(config: JsonObject, modules: Sequence[str], *, seconds: float | None = None) -> float:
    """Match every pattern of a config against module names in a process of its own; return the seconds that it took.

    Raise ArtefactError when the time runs out.
    """

    def texts(field: str) -> list[str]:
        value = config.get(field) or ()
        return [value] if isinstance(value, str) else list(value)

    whole = [field for field in ("target_modules", "exclude_modules") if isinstance(config.get(field), str)]
    fields = [
        *(Patterns(_where(field), whole=texts(field)) for field in whole if config[field].lower() != "all-linear"),
        *(Patterns(_where(field), ends=texts(field)) for field in ("rank_pattern", "alpha_pattern")),
        Patterns(_where("modules_to_save"), parts=texts("modules_to_save")),
        Patterns(_where("layers_pattern"), layers=texts("layers_pattern")),
    ]
    return try_patterns(fields, modules, seconds=seconds)


def _where(field: str) -> str:
    return f"`{field}` of {ADAPTER_CONFIG}"


def _refused(field: str, value: object, limit: str) -> ArtefactError:
    return ArtefactError(f"{_where(field)} is {shortened(repr(value), 80)}, and {limit}")


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _check_names(config: JsonObject) -> None:
    for field, kinds in _NAME_FIELDS.items():
        value = config.get(field)
        if value is None or (isinstance(value, str) and str in kinds):
            continue
        if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
            raise _refused(field, value, "it must be made of names")
        if len(value) > (most := MOST_PATTERNS if field == "modules_to_save" else MOST_NAMES):
            raise _refused(field, value, f"it may have {most:,} names at most, not {len(value):,}")


def _check_numbers(config: JsonObject) -> None:
    for field in ("rank_pattern", "alpha_pattern"):
        value = config.get(field) or {}
        if not isinstance(value, dict) or not all(isinstance(number, (int, float)) for number in value.values()):
            raise _refused(field, value, "it must be an object of numbers")
        if len(value) > MOST_PATTERNS:
            raise _refused(field, value, f"it may have {MOST_PATTERNS:,} of them at most, not {len(value):,}")
    for field in ("lora_alpha", "lora_dropout"):
        if not isinstance(config.get(field, 0), (int, float)):
            raise _refused(field, config[field], "it must be a number")
    alphas = [("alpha_pattern", alpha) for alpha in (config.get("alpha_pattern") or {}).values()]
    for field, alpha in [("lora_alpha", config.get("lora_alpha", 0)), *alphas]:
        if abs(alpha) > MOST_ALPHA:
            raise _refused(field, alpha, f"it may be {MOST_ALPHA:,} at most")
    tokens = config.get("alora_invocation_tokens")
    if tokens is not None and not (
        isinstance(tokens, list) and all(_is_whole(token) and 0 <= token < 2**31 for token in tokens)
    ):
        raise _refused("alora_invocation_tokens", tokens, "it must be a list of ids of tokens")


def _check_iterations(config: JsonObject) -> None:
    init, loftq = str(config.get("init_lora_weights")), config.get("loftq_config") or {}
    if not isinstance(loftq, dict):
        raise _refused("loftq_config", loftq, "it must be an object")
    counts = {
        "init_lora_weights": init.rpartition("_niter_")[2] if "_niter_" in init else "1",
        "loftq_config": str(loftq.get("loftq_iter", 1)),
    }
    for field, count in counts.items():
        if not count.isdecimal() or int(count) > MOST_ITERATIONS:
            raise _refused(field, config[field], f"it may take {MOST_ITERATIONS} iterations at most")


def _check_ranks(adapter: CheckedAdapter) -> None:
    ranks = [
        shape[0]
        for name, shape in adapter.shapes.items()
        if shape and (".lora_A" in name or ".lora_embedding_A" in name)
    ]
    if not ranks:
        raise ArtefactError(f"{ADAPTER_WEIGHTS} holds no LoRA weights")
    limit = f"the largest rank in {ADAPTER_WEIGHTS} is {max(ranks)}"
    rank, pattern = adapter.config.get("r", 8), adapter.config.get("rank_pattern") or {}
    if not _is_whole(rank) or rank < 1:
        raise _refused("r", rank, "it must be a whole number above 0")
    if rank > max(ranks) and not pattern:  # with a pattern, every module may have a rank of its own
        raise _refused("r", rank, limit)
    for name, value in pattern.items():
        if not _is_whole(value) or value < 1:
            raise _refused("rank_pattern", {name: value}, "it must be of whole numbers above 0")
    # an adapter that is not built in full takes no memory for ranks that its weights lack
    if adapter.is_built_in_full and (largest := max([rank, *pattern.values()])) > max(ranks):
        field, value = ("r", rank) if rank == largest else ("rank_pattern", pattern)
        raise _refused(field, value, limit)


def _check_tokens_and_layers(adapter: CheckedAdapter) -> None:
    indices = adapter.config.get("trainable_token_indices") or []
    deltas = (shape[0] for name, shape in adapter.shapes.items() if ".trainable_tokens_delta" in name and shape)
    most = max(deltas, default=0)
    for tokens in indices.values() if isinstance(indices, dict) else [indices]:
        if not isinstance(tokens, list) or len(tokens) > most:
            raise _refused("trainable_token_indices", tokens, f"{ADAPTER_WEIGHTS} holds {most} of them")
    ranges = adapter.config.get("layer_replication") or []
    layers = {part for name in adapter.shapes for part in name.split(".") if part.isdecimal()}
    if not isinstance(ranges, list) or not all(
        isinstance(span, list) and len(span) == 2 and all(isinstance(end, int) for end in span) for span in ranges
    ):
        raise _refused("layer_replication", ranges, "it must be a list of pairs of whole numbers")
    if sum(max(0, stop - start) for start, stop in ranges) > len(layers):
        raise _refused("layer_replication", ranges, f"{ADAPTER_WEIGHTS} holds {len(layers)} layers")
