"""Recompute only as many decoder layers as memory needs.

Gradient checkpointing recomputes every layer in backward, which costs a forward pass more. What a layer keeps for
backward instead goes by the tokens of the pass, so the number of layers that a pass recomputes is chosen for it: the
longest pass recomputes what it was told to, and a shorter one fewer, in the memory of the longest. The first layers are
recomputed and the last ones kept, because backward has freed the last ones by the time that it recomputes. Losses and
gradients are the same bits whatever is recomputed.
"""

from __future__ import annotations

from typing import Any

import torch


class Recomputed:
    """A hook on the backbone that sets, before each training pass, which of its layers are recomputed.

    `count` is how many in a pass of `longest` tokens; a shorter pass keeps as many more as fit into the same memory.
    With `longest` None every pass recomputes `count`. Gradient checkpointing must be on in the model. Register it after
    SharedPrefix, so that the tokens are those that run.
    """

    def __init__(self, causal_lm: Any, count: int) -> None:
        self.count = count
        self.longest: int | None = None
        self.layers = list(causal_lm.base_model.layers)
        causal_lm.base_model.register_forward_pre_hook(self._choose, with_kwargs=True)

    def layers_for(self, tokens: int) -> int:
        """Return how many layers a pass of so many tokens recomputes."""
        if self.longest is None:
            return self.count
        return max(len(self.layers) - (len(self.layers) - self.count) * self.longest // tokens, 0)

    def _choose(self, backbone: Any, args: Any, kwargs: dict[str, Any]) -> None:
        ids = kwargs.get("input_ids")
        # TRL puts checkpointing off and on again round the reference, so it is set for every pass
        if ids is None or not (backbone.training and torch.is_grad_enabled()):
            return
        count = self.layers_for(ids.numel())
        for place, layer in enumerate(self.layers):
            layer.gradient_checkpointing = place < count
