"""`unpaired`: one answer a row, with a label whether it is a good one (KTO, arXiv 2402.01306)."""

from __future__ import annotations

from typing import Any

from hubdpo.data.messages import first_of, messages_of
from hubdpo.data.preference import Rated, Rejection
from hubdpo.data.question import ask, system_of

SCORES = {"true": 1.0, "1": 1.0, "1.0": 1.0, "false": 0.0, "0": 0.0, "0.0": 0.0}
"""Labels in lower case: Excel writes TRUE, and pandas 1.0 where some are missing."""
LABELS = ("label", "kto_tag")
READS = (LABELS, ("messages", ("prompt", "completion")))


def detect(row: dict[str, Any]) -> bool:
    if _score(first_of(row, LABELS)) is None:
        return False
    whole = row.get("messages")
    return isinstance(whole, list) or (row.get("prompt") is not None and row.get("completion") is not None)


def convert(row: dict[str, Any]) -> Rated:
    """Return the answer with score 1 or 0; it becomes a pair with an answer of the other label to the same prompt."""
    label = first_of(row, LABELS)
    if label is None:
        raise Rejection("missing_field")
    score = _score(label)
    if score is None:
        raise Rejection("unknown_label")
    if row.get("messages") is not None:
        whole = messages_of(row["messages"])
        if not whole or whole[-1]["role"] != "assistant":
            raise Rejection("does_not_end_with_assistant")
        return ask(whole[:-1], system=system_of(row)).rated(whole[-1:], score)
    return ask(row.get("prompt"), system=system_of(row)).rated(row.get("completion"), score)


def _score(label: Any) -> float | None:
    return SCORES.get(str(label).strip().lower()) if isinstance(label, (bool, int, float, str)) else None
