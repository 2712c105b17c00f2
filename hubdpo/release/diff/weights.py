"""How far two LoRA adapters are apart, in the weights that they add to the base, and two whole models.

An adapter adds s·B·A to a weight (arXiv 2106.09685), with s = alpha / r. The matrices A and B of two runs say nothing
beside each other, and their ranks may differ; their products can be compared. No product is formed: it is as large as
the base. With B = Q·R and Aᵀ = P·S, both of a few columns, its Frobenius norm is that of R·Sᵀ, and the difference of
two products is one product of the stacked factors.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from hubdpo.artefacts.formats.bounded import read_object
from hubdpo.cards.lint.adapter_fields import readable_fields
from hubdpo.errors import ArtefactError
from hubdpo.model.adapters.trial import Patterns, try_patterns

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
PEFTS_ALPHA = 8
"""`lora_alpha` of a config that does not give it."""


@dataclass(frozen=True)
class Distance:
    """Frobenius norms of what is added before and after, and of the difference.

    `relative` is to the norm before, `cosine` of the angle between the two; None where one of them adds nothing.
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
    """`total` is over all modules; a module that one adapter does not have counts as zero there."""

    total: Distance
    modules: dict[str, Distance]
    rank_before: list[int]
    rank_after: list[int]


def compare_weights(before: Path, after: Path) -> WeightChanges:
    """Compare the adapters in two folders, a module at a time. Raise ArtefactError for what is not plain LoRA."""
    with _open(before) as old, _open(after) as new:
        modules = {name: _distance(old.factors(name), new.factors(name)) for name in sorted({*old.names, *new.names})}
        norms = [(one.before, one.after, one.difference) for one in modules.values()]
        total = Distance.of(*(math.hypot(*part) for part in zip(*norms, strict=True)))
        return WeightChanges(total, modules, old.ranks(), new.ranks())


def compare_tensors(before: Path, after: Path) -> WeightChanges:
    """Compare two whole models in folders, a tensor at a time. Raise ArtefactError when they have other shapes."""
    with _tensors(before) as old, _tensors(after) as new:
        modules = {name: _apart(old.get(name), new.get(name)) for name in sorted({*old, *new})}
    norms = [(one.before, one.after, one.difference) for one in modules.values()]
    return WeightChanges(Distance.of(*(math.hypot(*part) for part in zip(*norms, strict=True))), modules, [], [])


@contextmanager
def _tensors(folder: Path) -> Iterator[dict[str, Callable[[], Any]]]:
    """Give what reads each tensor of all files, in float64."""
    from safetensors import safe_open

    with ExitStack() as stack:
        found: dict[str, Callable[[], Any]] = {}
        for path in sorted(folder.glob("*.safetensors")):
            file = stack.enter_context(safe_open(path, framework="pt"))
            found |= {name: partial(_read, file, name) for name in list(file.keys())}
        yield found


def _read(file: Any, name: str) -> Any:
    return file.get_tensor(name).double().numpy()


def _apart(old: Callable[[], Any] | None, new: Callable[[], Any] | None) -> Distance:
    import numpy as np

    here, there = (read() if read else None for read in (old, new))
    if here is not None and there is not None and here.shape != there.shape:
        raise ArtefactError("the models have other shapes", hint="compare models of one base")
    norms = [0.0 if value is None else float(np.linalg.norm(value)) for value in (here, there)]
    apart = max(norms) if here is None or there is None else float(np.linalg.norm(there - here))
    return Distance.of(norms[0], norms[1], apart)


class _Adapter:
    """An adapter's matrices, read when they are asked for."""

    def __init__(self, file: Any, config: dict[str, Any]) -> None:
        self._file, self._config = file, config
        keys = list(file.keys())
        self.names = {key.removesuffix(".lora_A.weight") for key in keys if key.endswith(".lora_A.weight")}

    def factors(self, name: str) -> tuple[Any, Any] | None:
        """Return s·B and A of a module in float64; None when the adapter does not have it."""
        if name not in self.names:
            return None
        a, b = (self._file.get_tensor(f"{name}.lora_{part}.weight").double().numpy() for part in "AB")
        return self._scale(name, rank=a.shape[0]) * b, a

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

    config, wrong = readable_fields(read_object(folder / CONFIG))
    if wrong:
        raise ArtefactError(f"`{folder / CONFIG}`: `{wrong[0].field}` {wrong[0].message}", hint=wrong[0].hint)
    if config.get("peft_type") != "LORA" or config.get("use_dora"):
        raise ArtefactError(f"`{folder / CONFIG}` is not of a plain LoRA adapter", hint="compare LoRA adapters")
    try:
        with safe_open(folder / WEIGHTS, framework="pt") as file:
            adapter = _Adapter(file, config)
            if patterns := list(config.get("alpha_pattern") or ()):
                try_patterns([Patterns(f"`alpha_pattern` of {CONFIG}", ends=patterns)], adapter.names)
            yield adapter
    except SafetensorError as problem:
        raise ArtefactError(f"`{folder / WEIGHTS}` is broken: {problem}", hint="download it again") from None


def _distance(old: tuple[Any, Any] | None, new: tuple[Any, Any] | None) -> Distance:
    import numpy as np

    if old is None or new is None:
        here = old or new
        assert here is not None
        norm = _norm(*here)
        return Distance.of(norm if old else 0.0, norm if new else 0.0, norm)
    if old[1].shape[1] != new[1].shape[1] or old[0].shape[0] != new[0].shape[0]:
        raise ArtefactError("the adapters are for bases of other shapes", hint="compare adapters of one base")
    if all(np.array_equal(x, y) for x, y in zip(old, new, strict=True)):
        norm = _norm(*old)
        return Distance.of(norm, norm, 0.0)
    apart = _norm(np.concatenate([new[0], -old[0]], axis=1), np.concatenate([new[1], old[1]]))
    return Distance.of(_norm(*old), _norm(*new), apart)


def _norm(b: Any, a: Any) -> float:
    """Return the Frobenius norm of b·a, for b of few columns."""
    import numpy as np

    left: Any = np.linalg.qr(b, mode="r")
    right: Any = np.linalg.qr(a.T, mode="r")
    return float(np.linalg.norm(left @ right.T))
