"""Run root-mean-square norms as one kernel, where a model's own code takes eight and keeps float32 copies.

transformers writes the norm of each family out in Python: to float32, square, mean, root, product, back to bfloat16,
product with the weight. PyTorch has the same as one function. Families differ (Gemma multiplies with 1 + weight), so a
norm is replaced only when both give the same on random numbers.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
import torch.nn.functional as F

Forward = Callable[[torch.Tensor], torch.Tensor]
TOLERANCE = 1e-5


class FusedNorms:
    """Replaces the forward pass of every norm that `torch.nn.functional.rms_norm` equals, while the norm trains.

    In evaluation mode the model's own code runs, so scores are those that transformers gives.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        self.active = True
        self.layers = [part for part in model.modules() if type(part).__name__.endswith("RMSNorm") and _is_plain(part)]
        for norm in self.layers:
            norm.forward = functools.partial(self._forward, norm, norm.forward)

    def _forward(self, norm: torch.nn.Module, unfused: Forward, states: torch.Tensor) -> torch.Tensor:
        if not self.active or not norm.training:
            return unfused(states)
        return F.rms_norm(states, norm.weight.shape, norm.weight.to(states.dtype), norm.variance_epsilon)


def _is_plain(norm: torch.nn.Module) -> bool:
    """Tell whether a norm is x / sqrt(mean(x²) + epsilon) * weight, by trying."""
    weight, epsilon = getattr(norm, "weight", None), getattr(norm, "variance_epsilon", None)
    if weight is None or weight.dim() != 1 or not isinstance(epsilon, float):
        return False
    draw = torch.Generator().manual_seed(0)
    states, scales = torch.randn(4, len(weight), generator=draw), torch.rand(len(weight), generator=draw)
    states, scales = states.to(weight.device), scales.to(weight.device)
    with torch.no_grad():
        own = torch.func.functional_call(norm, {"weight": scales}, (states,))
    return bool(torch.allclose(own.float(), F.rms_norm(states, weight.shape, scales, epsilon), atol=TOLERANCE))
