"""`unpaired`: one answer a row, with a label whether it is a good one (KTO, arXiv 2402.01306)."""

from __future__ import annotations

from typing import Any

from hubdpo.data.preference import Rated, Rejection, answered, asked, messages_of

TRUE, FALSE = (True, 1, "true", "True", "1"), (False, 0, "false", "False", "0")


def detect(row: dict[str, Any]) -> bool:
    if not isinstance(row.get("label"), bool) and row.get("label") not in ("true", "false", "True", "False"):
        return False
    whole = row.get("messages")
    return isinstance(whole, list) or (row.get("prompt") is not None and row.get("completion") is not None)


def convert(row: dict[str, Any]) -> Rated:
    """Return the answer with score 1 or 0; it becomes a pair with an answer of the other label to the same prompt."""
    label = row.get("label")
    if label is None:
        raise Rejection("missing_field")
    if label not in TRUE and label not in FALSE:
        raise Rejection("unknown_label")
    if row.get("messages") is not None:
        whole = messages_of(row["messages"])
        if not whole or whole[-1]["role"] != "assistant":
            raise Rejection("does_not_end_with_assistant")
        prompt, answer = whole[:-1], whole[-1:]
    else:
        prompt = asked(row.get("prompt"))
        answer = answered(row.get("completion"), prompt)
    return Rated(prompt, answer, 1.0 if label in TRUE else 0.0)
