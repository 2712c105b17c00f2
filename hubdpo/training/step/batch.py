"""The padded batch that TRL computes losses of, made of rows of token ids.

Shapes, here and in the rest of step/: B pairs, T tokens of the longest sequence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, TypedDict

import numpy as np
import torch

from hubdpo.data.encoded.rows import SIDES, Row
from hubdpo.training.step.layout import Layout

PAIR_VALUES = ("margin", "weight")
"""What a dataset may say of a pair beside its messages, each a float; see `hubdpo.training.pair_values.set_values`."""
REFERENCE = ("ref_chosen_logps", "ref_rejected_logps")
"""With a cached reference, the log-probs of both answers of a row: floats, in nats."""


class Batch(TypedDict):
    """B pairs in 2B right-padded rows: row i is the chosen side of pair i, row B + i its rejected side."""

    input_ids: torch.Tensor  # [2B, T]
    attention_mask: torch.Tensor  # [2B, T] 1 at real tokens, 0 at padding
    completion_mask: torch.Tensor  # [2B, T] 1 at the tokens that are scored
    ref_chosen_logps: NotRequired[torch.Tensor]  # [B] reference log-probability of the answer, in nats
    ref_rejected_logps: NotRequired[torch.Tensor]  # [B]
    margin: NotRequired[torch.Tensor]  # [B]
    weight: NotRequired[torch.Tensor]  # [B]
    layout: NotRequired[Layout]  # of the packed forward pass
    row: NotRequired[list[int]]  # B numbers of the rows in their split


class PairCollator:
    """Collate rows as TRL does, and score only the tokens that the assistant says.

    Other turns inside an answer (`chosen_context`, `rejected_context`) stay in `input_ids` as context and are cleared
    in `completion_mask`, so they count in no loss, length or accuracy.
    """

    def __init__(self, pad_token_id: int) -> None:
        self.pad_token_id = pad_token_id

    def __call__(self, rows: Sequence[Row]) -> Batch:
        shape = 2 * len(rows), max(map(row_length, rows))
        ids = np.full(shape, self.pad_token_id, dtype=np.int64)
        mask, scored = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
        for place, (side, row) in enumerate((side, row) for side in SIDES for row in rows):
            prompt, answer = row["prompt_ids"], row[f"{side}_ids"]
            start, stop = len(prompt), len(prompt) + len(answer)
            ids[place, :start], ids[place, start:stop] = prompt, answer
            mask[place, :stop] = scored[place, start:stop] = 1
            for first, last in context_of(row, side):
                scored[place, start + first : start + last] = 0
        batch: Batch = {
            "input_ids": torch.from_numpy(ids),
            "attention_mask": torch.from_numpy(mask),
            "completion_mask": torch.from_numpy(scored),
        }
        for name in (*REFERENCE, *PAIR_VALUES):
            if name in rows[0]:
                batch[name] = torch.tensor([row[name] for row in rows])  # type: ignore[literal-required]
        if "row" in rows[0]:
            batch["row"] = [row["row"] for row in rows]
        return batch


def for_trl(batch: Mapping[str, Any]) -> Batch:
    """Return the batch as TRL knows it, which would hand anything else to the model."""
    own = (*PAIR_VALUES, "layout", "row")
    rest: Any = {name: value for name, value in batch.items() if name not in own}
    return rest  # type: ignore[no-any-return]


def row_length(row: Row) -> int:
    """Return the tokens of the longer side of a pair, prompt included."""
    return len(row["prompt_ids"]) + max(len(row["chosen_ids"]), len(row["rejected_ids"]))


def context_of(row: Row, side: str) -> list[tuple[int, int]]:
    """Return the spans `[start, stop)` of an answer that are not scored."""
    bounds = row.get(f"{side}_context")
    return [] if bounds is None else [(int(a), int(b)) for a, b in zip(bounds[::2], bounds[1::2], strict=True)]


def scored_tokens(row: Row, side: str) -> int:
    """Return the scored tokens of an answer. The first token of a sequence has no prediction."""
    tokens: int = len(row[f"{side}_ids"])
    spans = context_of(row, side)
    if tokens and not len(row["prompt_ids"]) and not (spans and spans[0][0] == 0):
        tokens -= 1
    return tokens - sum(stop - start for start, stop in spans)
