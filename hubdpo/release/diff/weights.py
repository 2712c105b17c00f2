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
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from hubdpo.artefacts.folders.model_files import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from hubdpo.artefacts.formats.bounded import read_object
from hubdpo.cards.lint.adapter_fields import readable_fields
from hubdpo.errors import ArtefactError
from hubdpo.model.adapters.trial import Patterns, try_patterns

if TYPE_CHECKING:
    from safetensors import safe_open

Array = npt.NDArray[np.float64]
T = TypeVar("T")
Readers = dict[str, Callable[[], T]]
"""A function for each name, which reads its weights as float64."""
LORA_A = ".lora_A.weight"
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
    with _factors(before) as (old, old_ranks), _factors(after) as (new, new_ranks):
        modules = {name: _distance(*sides) for name, sides in _read(old, new)}
    return WeightChanges.of(modules, old_ranks, new_ranks)


def compare_tensors(before: Path, after: Path) -> WeightChanges:
    """Compare two whole models in folders, tensor by tensor. Raise ArtefactError when their shapes differ."""
    with _tensors(before) as old, _tensors(after) as new:
        modules = {name: _apart(*sides) for name, sides in _read(old, new)}
    return WeightChanges.of(modules, [], [])


def _read(old: Readers[T], new: Readers[T]) -> Iterator[tuple[str, tuple[T | None, T | None]]]:
    """Yield the weights of each name on both sides, one name at a time."""
    for name in sorted({*old, *new}):
        yield name, (old[name]() if name in old else None, new[name]() if name in new else None)


@contextmanager
def _tensors(folder: Path) -> Iterator[Readers[Array]]:
    from safetensors import safe_open

    with ExitStack() as stack:
        tensors: Readers[Array] = {}
        for path in sorted(folder.glob("*.safetensors")):
            file = stack.enter_context(safe_open(path, framework="pt"))
            tensors |= {name: partial(_tensor, file, name) for name in list(file.keys())}
        yield tensors


def _tensor(file: safe_open, name: str) -> Array:
    tensor: Array = file.get_tensor(name).double().numpy()
    return tensor


def _apart(before: Array | None, after: Array | None) -> Distance:
    if before is not None and after is not None and before.shape != after.shape:
        raise ArtefactError("the models have different shapes", hint="compare models of one base")
    norms = [0.0 if value is None else float(np.linalg.norm(value)) for value in (before, after)]
    difference = max(norms) if before is None or after is None else float(np.linalg.norm(after - before))
    return Distance.of(norms[0], norms[1], difference)


@contextmanager
def _factors(folder: Path) -> Iterator[tuple[Readers[Factors], list[int]]]:
    """Yield the modules of an adapter and their ranks."""
    from safetensors import SafetensorError, safe_open

    config, wrong = readable_fields(read_object(folder / ADAPTER_CONFIG))
    if wrong:
        raise ArtefactError(f"`{folder / ADAPTER_CONFIG}`: `{wrong[0].field}` {wrong[0].message}", hint=wrong[0].hint)
    if config.get("peft_type") != "LORA" or config.get("use_dora"):
        raise ArtefactError(f"`{folder / ADAPTER_CONFIG}` is not of a plain LoRA adapter", hint="compare LoRA adapters")
    try:
        with safe_open(folder / ADAPTER_WEIGHTS, framework="pt") as file:
            names = {key.removesuffix(LORA_A) for key in list(file.keys()) if key.endswith(LORA_A)}
            if patterns := list(config.get("alpha_pattern") or ()):
                try_patterns([Patterns(f"`alpha_pattern` of {ADAPTER_CONFIG}", "ends", patterns)], names)
            ranks = sorted({file.get_slice(f"{name}{LORA_A}").get_shape()[0] for name in names})
            yield {name: partial(_scaled, file, config, name) for name in names}, ranks
    except SafetensorError as problem:
        raise ArtefactError(f"`{folder / ADAPTER_WEIGHTS}` is broken: {problem}", hint="download it again") from None


def _scaled(file: safe_open, config: dict[str, Any], name: str) -> Factors:
    a, b = (_tensor(file, f"{name}.lora_{part}.weight") for part in "AB")
    patterns = config.get("alpha_pattern") or {}
    own = (alpha for pattern, alpha in patterns.items() if re.fullmatch(rf"(.*\.)?({pattern})", name))
    alpha = float(next(own, config.get("lora_alpha", PEFTS_ALPHA)))
    return Factors(alpha / (math.sqrt(len(a)) if config.get("use_rslora") else len(a)) * b, a)


def _distance(old: Factors | None, new: Factors | None) -> Distance:
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
    left: Any = np.linalg.qr(b, mode="r")
    right: Any = np.linalg.qr(a.T, mode="r")
    return float(np.linalg.norm(left @ right.T))
