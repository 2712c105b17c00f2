"""TRL's batches, with labels on what the assistant says alone."""

from __future__ import annotations

from itertools import chain
from typing import Any

from trl.trainer.dpo_trainer import DataCollatorForPreference


class AssistantCollator(DataCollatorForPreference):
    """Take out of `completion_mask` [2B, T] the spans of each row's `chosen_context` and `rejected_context`.

    Other turns inside an answer stay in `input_ids`, to be read, and count in no loss, length or accuracy.
    """

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        batch: dict[str, Any] = super().torch_call(examples)
        sides = chain.from_iterable(
            [(len(row["prompt_ids"]), row.get(side) or ()) for row in examples]
            for side in ("chosen_context", "rejected_context")
        )
        for mask, (first, context) in zip(batch["completion_mask"], sides, strict=True):
            for start, stop in zip(context[::2], context[1::2], strict=True):
                mask[first + start : first + stop] = 0
        return batch
