"""What each option of `train` affects: whether a resumed run may change it, and whether the runs of a sweep may."""

from __future__ import annotations

from enum import Enum
from typing import Annotated, TypeVar

from pydantic import BaseModel


class Role(Enum):
    """What an option affects. Every field has one role."""

    WEIGHTS = "affects the trained weights: a resumed run must keep it"
    MANNER = "affects logging, saving or memory layout: a resumed run may change it, up to rounding"
    COMMAND = "belongs to this command, not to the run, whose base and data are pinned by content"


T = TypeVar("T")
Weights = Annotated[T, Role.WEIGHTS]
Manner = Annotated[T, Role.MANNER]
Command = Annotated[T, Role.COMMAND]

_PAIRS, _BASE, _REFERENCE = "tokenised pairs", "base in memory", "reference log-probs"
SHARED = {
    "max_length": _PAIRS, "max_prompt_length": _PAIRS, "chat_template": _PAIRS, "chat_template_kwargs": _PAIRS,
    "margin_columns": _PAIRS, "margin_scale": _PAIRS, "weight_column": _PAIRS, "dataset": _PAIRS,
    "max_eval_pairs": _PAIRS, "eval_dataset": _PAIRS,
    "load_in_4bit": _BASE, "dtype": _BASE, "model_name_or_path": _BASE, "model_revision": _BASE,
    "reference_adapter": _REFERENCE, "ld_alpha": _REFERENCE, "adapter": _REFERENCE, "reference": _REFERENCE,
    "num_processes": "one process",
}  # fmt: skip
"""Options that change what the runs of a sweep have in common."""
OF_A_STEP = ("per_device_train_batch_size", "gradient_accumulation_steps")
"""Options of the memory layout whose product, the pairs of a step, is learned from."""


def may_have_several(model: type[BaseModel], name: str) -> bool:
    """Return whether runs of a sweep may differ in an option."""
    return name in OF_A_STEP or (Role.WEIGHTS in model.model_fields[name].metadata and name not in SHARED)
