"""How much memory there is, and how much of it a token takes on its way to the loss and back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psutil
import torch

MOST_TOKENS = 16_384
"""Past about 5,000 tokens a pass de-quantising NF4 weights is a few per cent of a step, and more buys nothing."""
SHARE = 0.6
"""Of the free memory that `auto` fills: fragments and the widest layer are not in the measurement."""


def free_bytes(device: str) -> int:
    """Return what this process can still take: on the GPU with what PyTorch holds back, on the CPU without swapping."""
    if device == "cuda":
        return torch.cuda.mem_get_info()[0] + torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
    return int(psutil.virtual_memory().available)


def bytes_of(step: Callable[[], None], model: Any, device: str) -> int:
    """Run a forward and backward pass and return the bytes that it took beside the weights.

    On the GPU its peak; on the CPU, where there is no such counter, twice what forward keeps for backward.
    """
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        return torch.cuda.max_memory_allocated() - before
    kept: dict[int, int] = {}
    weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        step()
    return 2 * sum(kept.values())


def tokens_that_fit(taken: int, tokens: int, device: str) -> int:
    """Return how many tokens a pass may hold, when one of `tokens` took `taken` bytes; a whole number of 256."""
    fitting = int(SHARE * free_bytes(device) * tokens / max(taken, 1))
    return max(tokens, min(fitting, MOST_TOKENS) // 256 * 256)
