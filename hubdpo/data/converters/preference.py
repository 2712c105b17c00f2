"""`preference`: prompt, chosen and rejected, each as text or as messages (trl dataset formats)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hubdpo.data.columns import Columns, MessagesColumn, plain_texts
from hubdpo.data.preference import COLUMNS, PreferenceExample, answered, asked


def detect(row: dict[str, Any]) -> bool:
    return all(isinstance(row.get(name), (str, list)) for name in ("prompt", "chosen", "rejected"))


def convert(row: dict[str, Any]) -> PreferenceExample:
    """Convert a row; with a text prompt, chosen and rejected may also be whole conversations that begin with it."""
    return from_values(row.get("prompt"), row.get("chosen"), row.get("rejected"))


def from_values(prompt: Any, chosen: Any, rejected: Any) -> PreferenceExample:
    turns = asked(prompt)
    return PreferenceExample(turns, answered(chosen, turns), answered(rejected, turns))


def convert_many(rows: list[dict[str, Any]]) -> Columns | None:
    return many_from_texts(*([row.get(name) for row in rows] for name in COLUMNS))


def many_from_texts(prompts: Sequence[Any], chosen: Sequence[Any], rejected: Sequence[Any]) -> Columns | None:
    """Make what `from_values` makes of values that all are texts, or return None."""
    texts = plain_texts(prompts), plain_texts(chosen), plain_texts(rejected)
    if texts[0] is None or texts[1] is None or texts[2] is None:
        return None
    return (
        MessagesColumn.turns(texts[0], "user"), MessagesColumn.turns(texts[1], "assistant"),
        MessagesColumn.turns(texts[2], "assistant"),
    )  # fmt: skip
