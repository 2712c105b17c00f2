"""Is an adapter's config within what its weights hold? Told from two small reads, before a base is fetched or built.

PEFT takes the ranks, tokens and modules of adapter_config.json at their word and makes room for them; what the weights
hold is compared afterwards, if the room was there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hubdpo.artefacts.formats.bounded import shortened
from hubdpo.artefacts.formats.safetensors_header import read_shapes
from hubdpo.errors import ArtefactError
from hubdpo.hub.client import called
from hubdpo.model.adapters.files import read_json
from hubdpo.model.tokenizer import trial
from hubdpo.model.tokenizer.trial import Patterns, try_patterns

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
FROM_THE_BASE = ("pissa", "olora")
"""Beginnings of `init_lora_weights` whose adapters are differences to the base, decomposed while they are loaded."""
MOST_ITERATIONS = 64
MOST_ALPHA = 1_000_000
"""Largest scale of an adapter, over its rank. Tens are usual, and with 10^39 every answer is NaN."""
MOST_NAMES, MOST_PATTERNS = 5_000, 1_000
"""Modules in one list, and those that are saved or have a rank or alpha of their own. PEFT compares every name with
every other, and it compiles every pattern anew for every module."""
_LEARNED = re.compile(r"[.](?:lora_|trainable_tokens)")
_TEXTS: dict[str, tuple[type, ...]] = {
    "target_modules": (str, list), "exclude_modules": (str, list), "layers_pattern": (str, list),
    "modules_to_save": (list,), "target_parameters": (list,),
}  # fmt: skip


def check_adapter_files(folder: Path) -> dict[str, Any]:
    """Return adapter_config.json of a folder once it asks for no more than the weights beside it hold.

    Raise ArtefactError, naming the field, its value and the limit; for an adapter that is no LoRA; for one whose
    weights are not safetensors.
    """
    name = called(folder)
    if not (folder / WEIGHTS).is_file():
        raise ArtefactError(
            f"`{name}` has no {WEIGHTS}, and weights in any other form are not opened",
            hint="ask its owner for a revision with safetensors",
        )
    config, shapes = read_json(folder / CONFIG), read_shapes(folder / WEIGHTS)
    if config.get("peft_type") != "LORA":
        raise ArtefactError(
            f"`{name}` is of peft_type {str(config.get('peft_type'))[:40]!r}, and hubdpo loads LoRA alone",
            hint="load it with PEFT itself",
        )
    with _of(name):
        _check_kinds(config)
        _check_ranks(config, shapes)
        _check_counts(config, shapes)
        _try_patterns(config, _modules(shapes))
    return config


def check_on_base(folder: Path, config: dict[str, Any], names: Sequence[str]) -> None:
    """Check a config that passed `check_adapter_files` against the `names` of its base's modules.

    Raise ArtefactError when matching its patterns takes more time than what that check has left, or when PEFT would
    copy modules of which the weights hold nothing.
    """
    shapes = read_shapes(folder / WEIGHTS)
    with _of(called(folder)):
        taken = _try_patterns(config, _modules(shapes))  # tried already, and remembered
        _try_patterns(config, names, seconds=trial.SECONDS - taken)
        saved = "\n".join(f".{name}" for name in shapes if not _LEARNED.search(name))
        for name in config.get("modules_to_save") or ():
            if f".{name}." not in saved and any(module.endswith(name) for module in names):
                raise _refused("modules_to_save", name, f"{WEIGHTS} holds nothing of it")


@contextmanager
def _of(name: str) -> Iterator[None]:
    """Say in an ArtefactError of the body which adapter it is of."""
    try:
        yield
    except ArtefactError as problem:
        hint = f"hubdpo inspect {name}, and tell its owner"
        raise ArtefactError(f"`{name}`: {problem.message}", hint=hint) from None


def _modules(shapes: Iterable[str]) -> list[str]:
    return sorted({tensor.partition(".lora_")[0].removeprefix("base_model.model.") for tensor in shapes})


def is_built_in_full(config: dict[str, Any]) -> bool:
    """Tell whether PEFT makes room for all that a config asks for before it reads the weights.

    It decomposes the base for some, and cannot copy its layers without their memory.
    """
    from_base = str(config.get("init_lora_weights")).lower().startswith(FROM_THE_BASE)
    return from_base or bool(config.get("layer_replication"))


def _try_patterns(config: dict[str, Any], names: Sequence[str], *, seconds: float | None = None) -> float:
    """Match every pattern of a config against the names of modules, in a process that may not end; return the seconds
    that it took. Raise ArtefactError when it does not end.
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
    return try_patterns(fields, names, seconds=seconds)


def _where(field: str) -> str:
    return f"`{field}` of {CONFIG}"


def _refused(field: str, value: Any, limit: str) -> ArtefactError:
    return ArtefactError(f"{_where(field)} is {shortened(repr(value), 80)}, and {limit}")


def _check_kinds(config: dict[str, Any]) -> None:
    """Refuse values of a kind that PEFT does not take."""
    for field, kinds in _TEXTS.items():
        given = config.get(field)
        if given is None or (isinstance(given, str) and str in kinds):
            continue
        if not isinstance(given, list) or not all(isinstance(part, str) for part in given):
            raise _refused(field, given, "it must be made of names")
        if len(given) > (most := MOST_PATTERNS if field == "modules_to_save" else MOST_NAMES):
            raise _refused(field, given, f"it may have {most:,} names at most, not {len(given):,}")
    for field in ("rank_pattern", "alpha_pattern"):
        value = config.get(field) or {}
        if not isinstance(value, dict) or not all(isinstance(n, (int, float)) for n in value.values()):
            raise _refused(field, value, "it must be an object of numbers")
        if len(value) > MOST_PATTERNS:
            raise _refused(field, value, f"it may have {MOST_PATTERNS:,} of them at most, not {len(value):,}")
    for field in ("lora_alpha", "lora_dropout"):
        if not isinstance(config.get(field, 0), (int, float)):
            raise _refused(field, config[field], "it must be a number")
    for field, alpha in (
        ("lora_alpha", config.get("lora_alpha", 0)),
        *(("alpha_pattern", value) for value in (config.get("alpha_pattern") or {}).values()),
    ):
        if abs(alpha) > MOST_ALPHA:
            raise _refused(field, alpha, f"it may be {MOST_ALPHA:,} at most")
    invoked = config.get("alora_invocation_tokens")
    if invoked is not None and (
        not isinstance(invoked, list) or not all(type(token) is int and 0 <= token < 2**31 for token in invoked)
    ):
        raise _refused("alora_invocation_tokens", invoked, "it must be a list of ids of tokens")
    init = str(config.get("init_lora_weights"))
    iterations = init.rpartition("_niter_")[2] if "_niter_" in init else "1"
    loftq = config.get("loftq_config") or {}
    if not isinstance(loftq, dict):
        raise _refused("loftq_config", loftq, "it must be an object")
    for field, told in (("init_lora_weights", iterations), ("loftq_config", str(loftq.get("loftq_iter", 1)))):
        if not told.isdecimal() or int(told) > MOST_ITERATIONS:
            raise _refused(field, config[field], f"it may take {MOST_ITERATIONS} iterations at most")


def _check_ranks(config: dict[str, Any], shapes: dict[str, tuple[int, ...]]) -> None:
    held = [shape[0] for name, shape in shapes.items() if ".lora_A" in name or ".lora_embedding_A" in name if shape]
    if not held:
        raise ArtefactError(f"{WEIGHTS} holds no LoRA weights")
    rank = config.get("r", 8)
    if isinstance(rank, bool) or not isinstance(rank, int) or rank < 1:
        raise _refused("r", rank, "it must be a whole number above 0")
    pattern = config.get("rank_pattern") or {}
    if rank > max(held) and not pattern:  # where every module has a rank of its own, `r` is of none
        raise _refused("r", rank, f"the largest rank in {WEIGHTS} is {max(held)}")
    for name, value in pattern.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise _refused("rank_pattern", {name: value}, "it must be of whole numbers above 0")
    # elsewhere a rank that no weights have takes no room, and one of a module that has none is of no account
    if is_built_in_full(config) and (largest := max([rank, *pattern.values()])) > max(held):
        field, value = ("r", rank) if rank == largest else ("rank_pattern", pattern)
        raise _refused(field, value, f"the largest rank in {WEIGHTS} is {max(held)}")


def _check_counts(config: dict[str, Any], shapes: dict[str, tuple[int, ...]]) -> None:
    indices = config.get("trainable_token_indices") or []
    held = max((shape[0] for name, shape in shapes.items() if ".trainable_tokens_delta" in name and shape), default=0)
    for listed in indices.values() if isinstance(indices, dict) else [indices]:
        if not isinstance(listed, list) or len(listed) > held:
            raise _refused("trainable_token_indices", listed, f"{WEIGHTS} holds {held} of them")
    ranges = config.get("layer_replication") or []
    layers = {part for name in shapes for part in name.split(".") if part.isdecimal()}
    if not isinstance(ranges, list) or not all(
        isinstance(span, list) and len(span) == 2 and all(isinstance(end, int) for end in span) for span in ranges
    ):
        raise _refused("layer_replication", ranges, "it must be a list of pairs of whole numbers")
    if sum(max(0, stop - start) for start, stop in ranges) > len(layers):
        raise _refused("layer_replication", ranges, f"{WEIGHTS} holds {len(layers)} layers")
