"""How much memory there is, and how much of it a token takes on its way to the loss and back."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psutil
import torch

from hubdpo.errors import HubdpoError
from hubdpo.machine.refusals import OUT_OF_MEMORY, machine_error, memory_limit

MOST_TOKENS = 16_384
"""Past about 5,000 tokens a pass de-quantising NF4 weights is a few per cent of a step, and more buys nothing."""
ENOUGH_TOKENS = 5_120
"""Where memory can be spent on layers that are not recomputed instead."""
_OF_THE_HOST = re.compile(r"\AMemoryError|CPUAllocator|an(?:no|')t allocate memory|not enough memory|map segment")
SHARE = 0.6
"""Of the free memory that `auto` fills: fragments and the widest layer are not in the measurement."""


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error, or what it was raised from, is a device or a host that is out of memory."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    if isinstance(error, RuntimeError) and OUT_OF_MEMORY.search(str(error)):
        return True
    return error.__cause__ is not None and is_out_of_memory(error.__cause__)


@contextmanager
def out_of_memory_is(told: Callable[[], HubdpoError]) -> Iterator[None]:
    """Raise what `told` returns in place of whatever says that memory ran out in the body.

    A host that ran into a limit of this process has no use for a smaller step, and is told as what the machine refuses.
    """
    try:
        yield
    except HubdpoError:
        raise
    except Exception as problem:
        if not is_out_of_memory(problem):
            raise
        if memory_limit() and _OF_THE_HOST.search(repr(problem)) and (limited := machine_error(problem)):
            raise limited from problem
        raise told() from None


def free_bytes(device: str) -> int:
    """Return what this process can still take: on the GPU with what PyTorch holds back, on the CPU without swapping."""
    if device == "cuda":
        reserved, allocated = torch.cuda.memory_reserved(), torch.cuda.memory_allocated()
        return int(torch.cuda.mem_get_info()[0] + reserved - allocated)
    return int(psutil.virtual_memory().available) // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def bytes_of(step: Callable[[], None], model: Any, device: str) -> int:
    """Run a forward and backward pass and return the bytes that it took beside the weights.

    On the GPU its peak; on the CPU, where there is no such counter, twice what forward keeps for backward.
    """
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        return int(torch.cuda.max_memory_allocated() - before)
    return 2 * kept_bytes(step, model)


def kept_bytes(step: Callable[[], None], model: Any) -> int:
    """Run a forward and backward pass and return the bytes that forward keeps for backward, weights apart."""
    kept: dict[int, int] = {}
    weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        step()
    return sum(kept.values())


def tokens_that_fit(measured: Sequence[tuple[int, int]], device: str, *, keeps_layers: bool = False) -> int:
    """Return how many tokens a pass may hold, a whole number of 256, when passes of so many tokens took so many bytes.

    The passes come in order of size. Of the last two only what grows with the tokens is counted for a token: gradients
    of the adapter and the widest de-quantised weight are the same for any pass. With `keeps_layers` it stops at what is
    enough, and leaves the rest of the memory to layers that are kept.
    """
    fewest, (tokens, taken) = measured[0][0], measured[-1]
    fixed, each = 0.0, max(taken, 1) / tokens
    if len(measured) > 1:
        before, less = measured[-2]
        slope = (taken - less) / max(tokens - before, 1)
        if slope > 0:
            fixed, each = max(taken - slope * tokens, 0.0), slope
    fitting = int((SHARE * free_bytes(device) - fixed) / each)
    return max(fewest, min(fitting, ENOUGH_TOKENS if keeps_layers else MOST_TOKENS) // 256 * 256)


def layers_that_fit(taken: int, layer: int, device: str) -> int:
    """Return how many layers can be kept, each of `layer` bytes, beside a pass that took `taken` bytes without."""
    # what backward needs beside is in `taken` already: it holds the gradients of one layer at a time
    return max(int((SHARE * free_bytes(device) - taken) / max(layer, 1)), 0)
