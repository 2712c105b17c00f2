"""What each option of `train` affects, which decides whether a resumed run may change it."""

from __future__ import annotations

from enum import Enum
from typing import Annotated, TypeVar


class Role(Enum):
    """What an option affects, which decides whether a resumed run may change it. Every field has one role."""

    WEIGHTS = "affects the trained weights: a resumed run must keep it"
    MANNER = "affects logging, saving or memory layout: a resumed run may change it, up to rounding"
    COMMAND = "belongs to this command, not to the run, whose base and data are pinned by content"


T = TypeVar("T")
Weights = Annotated[T, Role.WEIGHTS]
Manner = Annotated[T, Role.MANNER]
Command = Annotated[T, Role.COMMAND]
