"""Run a model's MLP activations and rotary positions as kernels of Liger (arXiv 2410.10989) while it trains.

Liger's function for a family changes the family's module in transformers, and the layers of a model, for good. Here it
runs once, and what it changed is noted and taken back. A training pass puts the changes on, backward pass and
recomputation included. All else computes as transformers does: evaluations, other models, later runs of the process.

Norms and head are left out: they have kernels of their own in `lora.py` and in TRL.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from transformers import PreTrainedModel

from hubdpo import console
from hubdpo.errors import ConfigError, UnsupportedBase

LEFT_OUT = ("rms_norm", "layer_norm", "cross_entropy", "fused_linear_cross_entropy")
WITHOUT = "--no-use-liger-kernel"
ABSENT = object()


class Change(NamedTuple):
    """A name of the family's module, or of a layer, before and after Liger's function."""

    place: dict[str, Any]
    name: str
    own: object
    liger: object


class LigerKernels:
    """Liger's changes to a model, which act inside `with on():` alone.

    Raise UnsupportedBase for a family that Liger has nothing for, ConfigError where its function fails.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        apply = of_family(str(model.config.model_type))
        layers = list(model.modules())
        places: list[dict[str, Any]] = [
            vars(sys.modules[type(model).__module__]),
            *(layer.__dict__ for layer in layers),
        ]
        before = [dict(place) for place in places]
        left_out = {name: False for name in LEFT_OUT if name in inspect.signature(apply).parameters}
        try:
            apply(model=model, **left_out)
        except Exception as problem:
            raise _failed(problem) from problem
        finally:
            self._changes = [
                Change(place, name, own.get(name, ABSENT), value)
                for place, own in zip(places, before, strict=True)
                for name, value in place.items()
                if own.get(name, ABSENT) is not value
            ]
            self._take_off()
        self._is_on = False
        changed = {id(change.place) for change in self._changes}
        kinds = Counter(type(layer).__name__ for layer in layers if id(layer.__dict__) in changed)
        functions = [change.name for change in self._changes if change.place is places[0]]
        named = [f"{count} {kind}" for kind, count in kinds.items()]
        named += [name for name in functions if not isinstance(places[0][name], type)]
        if not named:
            raise _nothing_for(model.config.model_type)
        console.info(f"kernels   of Liger in {', '.join(named)}")

    @contextmanager
    def on(self) -> Iterator[None]:
        """Compute with Liger's kernels in the body; inside another such body, as part of that."""
        if self._is_on:
            yield
            return
        self._is_on = True
        try:
            for place, name, _, liger in self._changes:
                place[name] = liger
            yield
        finally:
            self._is_on = False
            self._take_off()

    def _take_off(self) -> None:
        for place, name, own, _ in self._changes:
            if own is ABSENT:
                del place[name]
            else:
                place[name] = own


def of_family(model_type: str) -> Callable[..., None]:
    """Return Liger's function for a family of models. Raise UnsupportedBase for one that it does not know."""
    try:
        known = importlib.import_module("liger_kernel.transformers.monkey_patch").MODEL_TYPE_TO_APPLY_LIGER_FN
    except Exception as problem:
        raise _failed(problem) from problem
    if model_type not in known:
        raise _nothing_for(model_type)
    apply: Callable[..., None] = known[model_type]
    return apply


def _nothing_for(model_type: str) -> UnsupportedBase:
    return UnsupportedBase(f"Liger has no kernels for the layers of a `{model_type}` model", hint=WITHOUT)


def _failed(problem: Exception) -> ConfigError:
    first = f"{type(problem).__name__}: {problem}".splitlines()[0]
    return ConfigError(f"Liger's kernels cannot be used: {first}", hint=f"pip install -U liger-kernel, or {WITHOUT}")
