"""Measure the memory of a training step, work out what fits, and explain what to do when memory runs out."""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

import psutil

from hubdpo import console
from hubdpo.errors import HubdpoError, TrainingError
from hubdpo.machine.refusals import HOST_OUT_OF_MEMORY, OUT_OF_MEMORY, machine_error, memory_limit

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

MOST_TOKENS = 16_384
"""Tokens of a forward pass beyond which `auto` gains nothing: past about 5,000, de-quantising the NF4 weights is a few
per cent of a step."""
ENOUGH_TOKENS = 5_120
"""Tokens of a forward pass beyond which memory is better spent on layers that are not recomputed."""
SHARE = 0.6
"""Share of the free memory that `auto` fills: the measurement misses fragmentation and the widest layer."""
SMALLER = "a smaller base, such as Qwen/Qwen2-1.5B-Instruct"


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error, or the error that caused it, says that a device or the host is out of memory."""
    import torch

    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    if isinstance(error, RuntimeError) and OUT_OF_MEMORY.search(str(error)):
        return True
    return error.__cause__ is not None and is_out_of_memory(error.__cause__)


@contextmanager
def out_of_memory_is(make_error: Callable[[], HubdpoError]) -> Iterator[None]:
    """Raise the error that `make_error` returns when the body runs out of memory.

    A smaller step does not help a host at a limit of this process (`ulimit`): MachineError names that limit instead.
    """
    try:
        yield
    except HubdpoError:
        raise
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        if memory_limit() and HOST_OUT_OF_MEMORY.search(repr(error)) and (limited := machine_error(error)):
            raise limited from error
        raise make_error() from None


def room_for_base(*, load_in_4bit: bool) -> AbstractContextManager[None]:
    """Raise TrainingError when the body runs out of memory while it loads the base."""
    hint = f"--device cpu, or {SMALLER}" if load_in_4bit else f"--load-in-4bit, or {SMALLER}"
    return out_of_memory_is(lambda: TrainingError("the device has no room for the base", hint=hint))


def room_for_scoring(
    pairs: int, command: Callable[[int], str], *, doing: str = "scoring", noun: str = "pair", kept: str = ""
) -> AbstractContextManager[None]:
    """Raise TrainingError when the body runs out of memory while it scores `pairs` pairs a forward pass.

    `command` returns the command that scores a given number of pairs a pass, here half as many; `doing` and `noun` say
    what else it does, and `kept` ends the message with what is not lost.
    """
    message = f"the device ran out of memory while {doing}, {console.counted(pairs, noun)} at a time{kept}"
    return out_of_memory_is(lambda: TrainingError(message, hint=command(max(pairs // 2, 1))))


def free_bytes(device: str) -> int:
    """Return the bytes that this process can still take: on the CPU, its part of what there is without swapping."""
    import torch

    if device == "cuda":  # free memory, and what PyTorch holds in reserve
        reserved, allocated = torch.cuda.memory_reserved(), torch.cuda.memory_allocated()
        return int(torch.cuda.mem_get_info()[0] + reserved - allocated)
    return int(psutil.virtual_memory().available) // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def peak_bytes(device: str) -> int:
    """Return the most bytes that were held: on the GPU, or by this process."""
    import torch

    if device == "cuda":
        return int(torch.cuda.max_memory_allocated())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def bytes_of(step: Callable[[], None], model: PreTrainedModel, device: str) -> int:
    """Run a forward and backward pass and return the bytes that it took beside the weights.

    On the GPU this is the peak. The CPU has no such counter: there it is twice what forward keeps for backward.
    """
    import torch

    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        return int(torch.cuda.max_memory_allocated() - before)
    return 2 * kept_bytes(step, model)


def kept_bytes(step: Callable[[], None], model: PreTrainedModel) -> int:
    """Run a forward and backward pass and return the bytes that forward keeps for backward, without the weights."""
    import torch

    kept: dict[int, int] = {}  # bytes by address: several saved tensors may be views of one storage
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
    """Return how many tokens a forward pass may hold, a multiple of 256.

    `measured` are the tokens and bytes of passes, smallest first. With `keeps_layers` the answer stops at
    ENOUGH_TOKENS, which leaves memory for layers that are not recomputed.
    """
    fewest, (tokens, taken) = measured[0][0], measured[-1]
    # bytes = fixed + each * tokens: gradients of the adapter and the widest de-quantised weight are the same for any
    # pass, so only the growth between the last two passes counts for a token
    fixed, each = 0.0, max(taken, 1) / tokens
    if len(measured) > 1:
        tokens_before, taken_before = measured[-2]
        slope = (taken - taken_before) / max(tokens - tokens_before, 1)
        if slope > 0:
            fixed, each = max(taken - slope * tokens, 0.0), slope
    fitting = int((SHARE * free_bytes(device) - fixed) / each)
    return max(fewest, min(fitting, ENOUGH_TOKENS if keeps_layers else MOST_TOKENS) // 256 * 256)


def layers_that_fit(taken: int, layer: int, device: str) -> int:
    """Return how many layers, of `layer` bytes each, fit beside a pass that took `taken` bytes without them."""
    # `taken` already holds what backward needs beside: the gradients of one layer at a time
    return max(int((SHARE * free_bytes(device) - taken) / max(layer, 1)), 0)
