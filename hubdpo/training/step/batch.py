"""Rows of token ids, and the padded batches that TRL's collator makes of them.

Shapes, here and in the rest of step/: B pairs, T tokens of the longest row.
"""

from __future__ import annotations

from itertools import chain
from typing import Any, NotRequired, TypedDict

import torch
from trl.trainer.dpo_trainer import DataCollatorForPreference

Row = dict[str, Any]
"""One pair as `PairTokenizer.rows` returns it: `prompt_ids`, `chosen_ids`, `rejected_ids`, and in `chosen_context` and
`rejected_context` the spans of an answer that are not scored. With a cached reference also `ref_chosen_logps` and
`ref_rejected_logps`, floats in nats."""


class Batch(TypedDict):
    """B pairs in 2B right-padded rows: row i is the chosen side of pair i, row B + i its rejected side."""

    input_ids: torch.Tensor  # [2B, T]
    attention_mask: torch.Tensor  # [2B, T] 1 at real tokens, 0 at padding
    completion_mask: torch.Tensor  # [2B, T] 1 at the tokens that are scored
    ref_chosen_logps: NotRequired[torch.Tensor]  # [B] reference log-probability of the answer, in nats
    ref_rejected_logps: NotRequired[torch.Tensor]  # [B]


class AssistantCollator(DataCollatorForPreference):
    """Collate as TRL does, and score only the tokens that the assistant says.

    Other turns inside an answer (`chosen_context`, `rejected_context`) stay in `input_ids` as context and are cleared
    in `completion_mask`, so they count in no loss, length or accuracy.
    """

    def torch_call(self, examples: list[Row]) -> Batch:
        batch: Batch = super().torch_call(examples)
        spans = chain.from_iterable(
            [(len(row["prompt_ids"]), row.get(side) or ()) for row in examples]
            for side in ("chosen_context", "rejected_context")
        )
        for mask, (prompt, context) in zip(batch["completion_mask"], spans, strict=True):
            for start, stop in zip(context[::2], context[1::2], strict=True):
                mask[prompt + start : prompt + stop] = 0
        return batch


def row_length(row: Row) -> int:
    """Return the tokens of the longer side of a pair, prompt included."""
    return len(row["prompt_ids"]) + max(len(row["chosen_ids"]), len(row["rejected_ids"]))


def select_pairs(batch: Batch, pairs: torch.Tensor) -> Batch:
    """Return the batch of these pairs, given by index, padded to the longest row among them."""
    rows = torch.cat([pairs, pairs + len(batch["input_ids"]) // 2])
    width = int(batch["attention_mask"][rows].sum(dim=1).max())
    selected: Batch = {
        "input_ids": batch["input_ids"][rows, :width],
        "attention_mask": batch["attention_mask"][rows, :width],
        "completion_mask": batch["completion_mask"][rows, :width],
    }
    if "ref_chosen_logps" in batch:
        selected["ref_chosen_logps"] = batch["ref_chosen_logps"][pairs]
        selected["ref_rejected_logps"] = batch["ref_rejected_logps"][pairs]
    return selected
