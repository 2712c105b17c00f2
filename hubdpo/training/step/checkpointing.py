"""Recompute only as many decoder layers as memory requires.

Gradient checkpointing recomputes every layer in backward, which costs one more forward pass. The memory that a kept
layer takes instead grows with the tokens of the pass. So each pass has its own number of recomputed layers: `count`
in a pass of `longest` tokens, and fewer in a shorter one, within the same memory. The first layers are recomputed and
the last ones kept, because backward starts at the last and has freed them before it recomputes. Losses and gradients
are the same to the bit, whichever layers are recomputed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from hubdpo.training.step.attention import Keywords
from hubdpo.training.step.shared_prefix import Arguments


def checkpointed_layers(causal_lm: PreTrainedModel) -> list[GradientCheckpointingLayer]:
    """Return the layers that transformers can recompute, in their order; none in models that do it another way."""
    return [part for part in causal_lm.base_model.modules() if isinstance(part, GradientCheckpointingLayer)]


class Recomputed:
    """A hook on the backbone of a model with gradient checkpointing. With `longest` None every pass recomputes `count`.

    Register it after SharedPrefix, so that it counts packed tokens.
    """

    def __init__(self, causal_lm: PreTrainedModel, count: int) -> None:
        self.count = count
        self.longest: int | None = None
        self.layers = checkpointed_layers(causal_lm)
        causal_lm.base_model.register_forward_pre_hook(self._choose, with_kwargs=True)

    def layers_for(self, tokens: int) -> int:
        """Return the number of layers that a pass of `tokens` tokens recomputes."""
        if self.longest is None:
            return self.count
        # kept layers x tokens is what memory holds: keep at most (L - count) * longest / tokens of the L layers
        return max(len(self.layers) - (len(self.layers) - self.count) * self.longest // tokens, 0)

    @contextmanager
    def fixed(self, count: int) -> Iterator[None]:
        """Recompute `count` layers in every pass of the body, whatever its length."""
        before = self.count, self.longest
        self.count, self.longest = count, None
        try:
            yield
        finally:
            self.count, self.longest = before

    def _choose(self, backbone: torch.nn.Module, args: Arguments, kwargs: Keywords) -> None:
        ids = kwargs.get("input_ids")
        if ids is None or not (backbone.training and torch.is_grad_enabled()):
            return
        count = self.layers_for(ids.numel())
        # for every pass: TRL turns checkpointing off and on again around the reference
        for index, layer in enumerate(self.layers):
            layer.gradient_checkpointing = index < count
