"""Which options of a run a sweep may give several values."""

from __future__ import annotations

from pydantic import BaseModel

from hubdpo.config.roles import Role

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
