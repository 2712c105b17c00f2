"""Remember a base as it was loaded, and give it back unchanged after a training that wrapped, patched and hooked it.

PEFT puts its layers in the place of linear ones, TRL and accelerate put forward passes over the model's own, and the
packed step adds hooks, norms and an attention. All of them change attributes of modules and configs, none a tensor of
the base. So whoever did what, and whether it failed halfway: the attributes of before are put back.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedModel

CONTAINERS = (dict, OrderedDict, list, set)
"""Attributes that are changed in place, such as the hooks and the children of a module."""


class AsLoaded:
    """A base, and the state of its modules and configs at this moment. It holds no copy of a tensor."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self._states = [(part, type(part), _copied(vars(part))) for part in _parts(model)]
        self._trained = [(weight, weight.requires_grad) for weight in model.parameters()]

    def put_back(self) -> None:
        """Undo every change of an attribute since then; what was added to the model is let go."""
        for part, kind, state in self._states:
            part.__class__ = kind
            vars(part).clear()
            vars(part).update(_copied(state))
        for weight, is_trained in self._trained:
            weight.requires_grad_(is_trained).grad = None


def _parts(model: PreTrainedModel) -> Iterator[Any]:
    """Yield every module of a model, and every config that one of them, or a config, refers to."""
    from transformers import GenerationConfig, PretrainedConfig

    found: dict[int, Any] = {id(module): module for module in model.modules()}
    waiting = [*found.values()]
    while waiting:
        yield (part := waiting.pop())
        for value in vars(part).values():
            if isinstance(value, (PretrainedConfig, GenerationConfig)) and id(value) not in found:
                found[id(value)] = value
                waiting.append(value)


def _copied(state: dict[str, Any]) -> dict[str, Any]:
    return {name: value.copy() if type(value) in CONTAINERS else value for name, value in state.items()}
