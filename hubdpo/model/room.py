"""A device that is too small, told with the next command: for the base, for scoring, for the reference."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from hubdpo.errors import TrainingError
from hubdpo.model.memory import out_of_memory_is

SMALLER = "a smaller base, such as Qwen/Qwen2-1.5B-Instruct"


def room_for_base(*, load_in_4bit: bool) -> AbstractContextManager[None]:
    """Raise TrainingError when memory runs out while the base is loaded in the body."""
    hint = f"--device cpu, or {SMALLER}" if load_in_4bit else f"--load-in-4bit, or {SMALLER}"
    return out_of_memory_is(lambda: TrainingError("the device has no room for the base", hint=hint))


def room_for_reference() -> AbstractContextManager[None]:
    """Raise TrainingError when memory runs out while reference log-probs are computed in the body."""
    told = "the device ran out of memory while the reference log-probs were computed"
    return out_of_memory_is(lambda: TrainingError(told, hint="--reference online"))


def room_for_scoring(pairs: int, again: Callable[[int], str], *, kept: str = "") -> AbstractContextManager[None]:
    """Raise TrainingError when memory runs out while `pairs` at a time are scored in the body.

    `again` gives the command for so many, half of them; `kept` says what is not lost.
    """
    told = f"the device ran out of memory while scoring, {pairs} pairs at a time{kept}"
    return out_of_memory_is(lambda: TrainingError(told, hint=again(max(pairs // 2, 1))))
