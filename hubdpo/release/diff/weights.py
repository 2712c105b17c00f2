"""Measure the distance between two LoRA adapters, or between two whole models, by Frobenius norms.

An adapter adds s·B·A to a weight (arXiv 2106.09685), with s = alpha / r. The factors A and B of two runs cannot be
compared, and their ranks may differ; their products can. A product is as large as the base, so it is never formed:
with the QR decompositions B = Q·R and Aᵀ = P·S, its norm is that of the small matrix R·Sᵀ, and the difference of two
products is one product of the stacked factors.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from hubdpo.artefacts.folders.model_files import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from hubdpo.artefacts.formats.bounded import read_object
from hubdpo.cards.lint.adapter_fields import readable_fields
from hubdpo.errors import ArtefactError
from hubdpo.model.adapters.trial import Patterns, try_patterns

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from safetensors import safe_open

    Array = npt.NDArray[np.float64]
    Read = Callable[[], Array]

PEFTS_ALPHA = 8
"""PEFT's default for `lora_alpha`."""


class Factors(NamedTuple):
    """s·B, shaped (outputs, rank), and A, shaped (rank, inputs), of one module."""

    b: Array
    a: Array


@dataclass(frozen=True)
class Distance:
    """Frobenius norms of the weights before and after, and of their difference.

    `relative` is the difference over the norm before, `cosine` that of the angle between the two. Each is None where it
    would divide by zero.
    """

    before: float
    after: float
    difference: float
    relative: float | None
    cosine: float | None

    @classmethod
    def of(cls, before: float, after: float, difference: float) -> Distance:
        inner = (before**2 + after**2 - difference**2) / 2  # the law of cosines
        cosine = inner / (before * after) if before and after else None
        return cls(before, after, difference, difference / before if before else None, cosine)


@dataclass(frozen=True)
class WeightChanges:
    """Distances by module, and over all of them. A module that one adapter lacks counts as zero there."""

    total: Distance
    modules: dict[str, Distance]
    rank_before: list[int]
    rank_after: list[int]

    @classmethod
    def of(cls, modules: dict[str, Distance], rank_before: list[int], rank_after: list[int]) -> WeightChanges:
        norms = [(one.before, one.after, one.difference) for one in modules.values()]
        total = Distance.of(*(math.hypot(*part) for part in zip(*norms, strict=True)))
        return cls(total, modules, rank_before, rank_after)


def compare_weights(before: Path, after: Path) -> WeightChanges:
    """Compare the adapters in two folders, module by module. Raise ArtefactError for anything but plain LoRA."""
    with _open(before) as old, _open(after) as new:
        modules = {name: _distance(old.factors(name), new.factors(name)) for name in sorted({*old.names, *new.names})}
        return WeightChanges.of(modules, old.ranks(), new.ranks())


def compare_tensors(before: Path, after: Path) -> WeightChanges:
    """Compare two whole models in folders, tensor by tensor. Raise ArtefactError when their shapes differ."""
    with _tensors(before) as old, _tensors(after) as new:
        modules = {name: _apart(old.get(name), new.get(name)) for name in sorted({*old, *new})}
    return WeightChanges.of(modules, [], [])


@contextmanager
def _tensors(folder: Path) -> Iterator[dict[str, Read]]:
    """Yield a function for each tensor of all files, which reads it as float64."""
    from safetensors import safe_open

    with ExitStack() as stack:
        tensors: dict[str, Read] = {}
        for path in sorted(folder.glob("*.safetensors")):
            file = stack.enter_context(safe_open(path, framework="pt"))
            tensors |= {name: partial(_read, file, name) for name in list(file.keys())}
        yield tensors


def _read(file: safe_open, name: str) -> Array:
    tensor: Array = file.get_tensor(name).double().numpy()
    return tensor


def _apart(old: Read | None, new: Read | None) -> Distance:
    import numpy as np

    before, after = old() if old else None, new() if new else None
    if before is not None and after is not None and before.shape != after.shape:
        raise ArtefactError("the models have different shapes", hint="compare models of one base")
    norms = [0.0 if value is None else float(np.linalg.norm(value)) for value in (before, after)]
    difference = max(norms) if before is None or after is None else float(np.linalg.norm(after - before))
    return Distance.of(norms[0], norms[1], difference)


class _Adapter:
    """The matrices of an adapter, read on demand."""

    def __init__(self, file: safe_open, config: dict[str, Any]) -> None:
        self._file, self._config = file, config
        keys = list(file.keys())
        self.names = {key.removesuffix(".lora_A.weight") for key in keys if key.endswith(".lora_A.weight")}

    def factors(self, name: str) -> Factors | None:
        """Return the factors of a module, or None when the adapter does not have it."""
        if name not in self.names:
            return None
        a, b = (self._file.get_tensor(f"{name}.lora_{part}.weight").double().numpy() for part in "AB")
        return Factors(self._scale(name, rank=a.shape[0]) * b, a)

    def ranks(self) -> list[int]:
        return sorted({self._file.get_slice(f"{name}.lora_A.weight").get_shape()[0] for name in self.names})

    def _scale(self, name: str, *, rank: int) -> float:
        own = (
            alpha
            for pattern, alpha in (self._config.get("alpha_pattern") or {}).items()
            if re.fullmatch(rf"(.*\.)?({pattern})", name)
        )
        alpha = float(next(own, self._config.get("lora_alpha", PEFTS_ALPHA)))
        return alpha / (math.sqrt(rank) if self._config.get("use_rslora") else rank)


@contextmanager
def _open(folder: Path) -> Iterator[_Adapter]:
    from safetensors import SafetensorError, safe_open

    config, wrong = readable_fields(read_object(folder / ADAPTER_CONFIG))
    if wrong:
        raise ArtefactError(f"`{folder / ADAPTER_CONFIG}`: `{wrong[0].field}` {wrong[0].message}", hint=wrong[0].hint)
    if config.get("peft_type") != "LORA" or config.get("use_dora"):
        raise ArtefactError(f"`{folder / ADAPTER_CONFIG}` is not of a plain LoRA adapter", hint="compare LoRA adapters")
    try:
        with safe_open(folder / ADAPTER_WEIGHTS, framework="pt") as file:
            adapter = _Adapter(file, config)
            if patterns := list(config.get("alpha_pattern") or ()):
                try_patterns([Patterns(f"`alpha_pattern` of {ADAPTER_CONFIG}", "ends", patterns)], adapter.names)
            yield adapter
    except SafetensorError as problem:
        raise ArtefactError(f"`{folder / ADAPTER_WEIGHTS}` is broken: {problem}", hint="download it again") from None


def _distance(old: Factors | None, new: Factors | None) -> Distance:
    import numpy as np

    if old is None or new is None:
        only = old or new
        assert only is not None
        norm = _norm(*only)
        return Distance.of(norm if old else 0.0, norm if new else 0.0, norm)
    if old.a.shape[1] != new.a.shape[1] or old.b.shape[0] != new.b.shape[0]:
        raise ArtefactError("the adapters are for bases of different shapes", hint="compare adapters of one base")
    if all(np.array_equal(x, y) for x, y in zip(old, new, strict=True)):
        norm = _norm(*old)
        return Distance.of(norm, norm, 0.0)
    # B₂·A₂ - B₁·A₁ = [B₂ | -B₁] · [A₂ ; A₁], whose rank is the sum of both
    difference = _norm(np.concatenate([new.b, -old.b], axis=1), np.concatenate([new.a, old.a]))
    return Distance.of(_norm(*old), _norm(*new), difference)


def _norm(b: Array, a: Array) -> float:
    """Return the Frobenius norm of b·a, where b has few columns."""
    import numpy as np

    left: Any = np.linalg.qr(b, mode="r")
    right: Any = np.linalg.qr(a.T, mode="r")
    return float(np.linalg.norm(left @ right.T))
