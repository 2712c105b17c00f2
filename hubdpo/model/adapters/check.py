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
from typing import Annotated, Any, Literal

from pydantic import Field, StrictFloat, StrictInt, StrictStr, TypeAdapter, ValidationError

from hubdpo import console
from hubdpo.artefacts.folders.model_files import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from hubdpo.artefacts.folders.named import is_folder
from hubdpo.artefacts.formats.bounded import JsonObject, shortened
from hubdpo.artefacts.formats.safetensors_header import read_shapes
from hubdpo.config.base import Values
from hubdpo.config.flags import quoted
from hubdpo.config.repo_id import is_repo_id
from hubdpo.errors import ArtefactError
from hubdpo.hub.client import called
from hubdpo.model.adapters.trial import Patterns, try_patterns
from hubdpo.model.untrusted import AGAIN, next_step, read_json

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
_Names = Annotated[list[StrictStr], Field(max_length=MOST_NAMES)]
_Rank = Annotated[StrictInt, Field(ge=1)]
_Alpha = Annotated[StrictInt | StrictFloat, Field(ge=-MOST_ALPHA, le=MOST_ALPHA)]
_FIELDS: dict[str, tuple[Any, str]] = {
    "target_modules": (StrictStr | _Names, f"a name or a list of at most {MOST_NAMES:,} names"),
    "exclude_modules": (StrictStr | _Names, f"a name or a list of at most {MOST_NAMES:,} names"),
    "layers_pattern": (StrictStr | _Names, f"a name or a list of at most {MOST_NAMES:,} names"),
    "target_parameters": (_Names, f"a list of at most {MOST_NAMES:,} names"),
    "modules_to_save": (
        Annotated[list[StrictStr], Field(max_length=MOST_PATTERNS)], f"a list of at most {MOST_PATTERNS:,} names",
    ),
    "r": (_Rank, "a whole number above 0"),
    "rank_pattern": (
        Annotated[dict[StrictStr, _Rank], Field(max_length=MOST_PATTERNS)],
        f"an object of at most {MOST_PATTERNS:,} whole numbers above 0",
    ),
    "lora_alpha": (_Alpha, f"a number up to {MOST_ALPHA:,}"),
    "alpha_pattern": (
        Annotated[dict[StrictStr, _Alpha], Field(max_length=MOST_PATTERNS)],
        f"an object of at most {MOST_PATTERNS:,} numbers up to {MOST_ALPHA:,}",
    ),
    "lora_dropout": (StrictInt | StrictFloat, "a number"),
    "loftq_config": (dict[str, object], "an object"),
    "alora_invocation_tokens": (list[Annotated[StrictInt, Field(ge=0, lt=2**31)]], "a list of token ids"),
    "layer_replication": (list[tuple[StrictInt, StrictInt]], "a list of pairs of whole numbers"),
}  # fmt: skip
"""Fields that PEFT trusts: their type, for pydantic and in words. Each may be null as well."""
_HOW: dict[str, Literal["whole", "ends", "parts", "layers"]] = {
    "target_modules": "whole", "exclude_modules": "whole", "rank_pattern": "ends", "alpha_pattern": "ends",
    "modules_to_save": "parts", "layers_pattern": "layers",
}  # fmt: skip
"""Fields with regular expressions, and how PEFT matches them."""
_TYPES = {name: TypeAdapter[object](kind | None) for name, (kind, _) in _FIELDS.items()}


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
    def rank(self) -> int:
        return int(self.config.get("r") or 8)  # PEFT's default

    @property
    def rank_pattern(self) -> dict[str, int]:
        return dict(self.config.get("rank_pattern") or {})

    @property
    def largest_rank(self) -> int:
        """The rank by which PEFT tells whether adapters can be combined factor by factor."""
        return max([self.rank, *self.rank_pattern.values()])

    @property
    def base_in_words(self) -> str:
        return shortened(repr(self.config.get("base_model_name_or_path")), 100)

    def named_base(self, *, is_local: bool) -> tuple[str, str | None] | None:
        """Return name and revision of the base that the config names, None where it cannot be had.

        Only an adapter that `is_local` may name a folder: one of the Hub could name any folder of this machine.
        """
        name, revision = self.config.get("base_model_name_or_path"), self.config.get("revision")
        if isinstance(name, str) and is_local and is_folder(name):
            return name, None
        if not isinstance(name, str) or not is_repo_id(name, owner_required=False):
            return None
        return name, revision if isinstance(revision, str) and revision else None

    @property
    def options(self) -> Values:
        """The options of `train` that say what it computes."""
        alpha, layers = self.config.get("lora_alpha"), self.config.get("layers_to_transform")
        alpha = 8 if alpha is None else alpha  # PEFT's default, as that of `r`
        return {
            "lora_r": self.rank, "lora_alpha": int(alpha) if alpha == int(alpha) else alpha,
            "lora_target_modules": sorted({name.rpartition(".")[2] for name in self.modules}),
            "layers_to_transform": [layers] if isinstance(layers, int) else layers and sorted(layers),
            "use_rslora": bool(self.config.get("use_rslora")), "use_dora": bool(self.config.get("use_dora")),
        }  # fmt: skip

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
            hint="ask its owner for a revision with safetensors" if (step := next_step(folder)) == AGAIN else step,
        )
    config, shapes = read_json(folder / ADAPTER_CONFIG), read_shapes(folder / ADAPTER_WEIGHTS)
    if config.get("peft_type") != "LORA":
        raise ArtefactError(
            f"`{name}` is of peft_type {str(config.get('peft_type'))[:40]!r}, and hubdpo loads LoRA alone",
            hint="load it with PEFT itself",
        )
    adapter = CheckedAdapter(folder, config, shapes)
    with _errors_name(name):
        _check_types(config)
        _check_iterations(config)
        _check_ranks(adapter)
        _check_tokens_and_layers(adapter)
        _try_patterns(config, adapter.modules)
        _check_each_module(adapter)
    return adapter


def check_on_base(adapter: CheckedAdapter, base_modules: Sequence[str]) -> None:
    """Check an adapter against the names of its base's modules.

    Raise ArtefactError when matching its patterns takes too long, or when PEFT would copy modules of which the weights
    hold nothing.
    """
    with _errors_name(called(adapter.folder)):
        _try_patterns(adapter.config, base_modules)
        saved = "\n".join(f".{name}" for name in adapter.shapes if not _LEARNED.search(name))
        for name in adapter.config.get("modules_to_save") or ():
            if f".{name}." not in saved and any(module.endswith(name) for module in base_modules):
                raise _refused("modules_to_save", name, f"{ADAPTER_WEIGHTS} holds no tensor of it")


@contextmanager
def _errors_name(name: str) -> Iterator[None]:
    try:
        yield
    except ArtefactError as problem:
        hint = f"hubdpo inspect {quoted(name)}, and tell its owner"
        raise ArtefactError(f"`{name}`: {problem.message}", hint=hint) from None


def _try_patterns(config: JsonObject, modules: Sequence[str]) -> None:
    fields = []
    for field, how in _HOW.items():
        value = config.get(field) or ()
        patterns = [value] if isinstance(value, str) else list(value)
        # a list of names is no pattern
        if how != "whole" or (isinstance(value, str) and value.lower() != "all-linear"):
            fields.append(Patterns(_where(field), how, patterns))
    try_patterns(fields, modules)


def _where(field: str) -> str:
    return f"`{field}` of {ADAPTER_CONFIG}"


def _refused(field: str, value: object, limit: str) -> ArtefactError:
    return ArtefactError(f"{_where(field)} is {shortened(repr(value), 80)}, and {limit}")


def _check_types(config: JsonObject) -> None:
    for field, (_, words) in _FIELDS.items():
        try:
            _TYPES[field].validate_python(config.get(field))
        except ValidationError:
            raise _refused(field, config[field], f"it must be {words}") from None


def _check_iterations(config: JsonObject) -> None:
    init, loftq = str(config.get("init_lora_weights")), config.get("loftq_config") or {}
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
    rank, pattern = adapter.rank, adapter.rank_pattern
    if rank > max(ranks) and not pattern:  # with a pattern, every module may have a rank of its own
        raise _refused("r", rank, limit)
    # an adapter that is not built in full takes no memory for ranks that its weights lack
    if adapter.is_built_in_full and (largest := adapter.largest_rank) > max(ranks):
        field, value = ("r", rank) if rank == largest else ("rank_pattern", pattern)
        raise _refused(field, value, limit)


def _check_each_module(adapter: CheckedAdapter) -> None:
    """Compare ranks and DoRA of the config with the weights of each module, after its patterns have been tried.

    PEFT finds another rank only once the base is loaded, and leaves magnitudes out without a word.
    """
    config = adapter.config
    rank, pattern, has_dora = adapter.rank, adapter.rank_pattern, bool(config.get("use_dora"))
    with_magnitude = {name.partition(".lora_")[0] for name in adapter.shapes if ".lora_magnitude_vector" in name}
    for name, shape in adapter.shapes.items():
        path, _, part = name.partition(".lora_")
        if len(shape) < 2 or not part.startswith(("A", "B", "embedding_A", "embedding_B")):
            continue
        module = path.removeprefix("base_model.model.")
        if has_dora != (path in with_magnitude):
            holds = "a" if path in with_magnitude else "no"
            raise _refused("use_dora", has_dora, f"{ADAPTER_WEIGHTS} holds {holds} magnitude of `{module}`")
        # parameters of experts share one matrix, and block-diagonal ones are stored in parts
        if config.get("target_parameters") or config.get("use_bdlora"):
            continue
        key = next((key for key in pattern if re.match(rf"(.*\.)?({key})$", module)), None)  # as PEFT matches it
        has = shape[0] if part.startswith(("A", "embedding_A")) else shape[1]
        if has != (rank if key is None else pattern[key]):
            field, value = ("r", rank) if key is None else ("rank_pattern", {key: pattern[key]})
            raise _refused(field, value, f"`{module}` in {ADAPTER_WEIGHTS} has rank {has}")


def _check_tokens_and_layers(adapter: CheckedAdapter) -> None:
    indices = adapter.config.get("trainable_token_indices") or []
    deltas = (shape[0] for name, shape in adapter.shapes.items() if ".trainable_tokens_delta" in name and shape)
    most = max(deltas, default=0)
    for tokens in indices.values() if isinstance(indices, dict) else [indices]:
        if not isinstance(tokens, list) or len(tokens) > most:
            raise _refused("trainable_token_indices", tokens, f"{ADAPTER_WEIGHTS} holds {most} of them")
    ranges = adapter.config.get("layer_replication") or []
    layers = {part for name in adapter.shapes for part in name.split(".") if part.isdecimal()}
    if sum(max(0, stop - start) for start, stop in ranges) > len(layers):
        raise _refused("layer_replication", ranges, f"{ADAPTER_WEIGHTS} holds {console.counted(len(layers), 'layer')}")
