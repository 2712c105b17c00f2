"""`preference`: prompt, chosen and rejected, each as text or as messages (trl dataset formats)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hubdpo.artefacts.formats.messages import COLUMNS
from hubdpo.data.converters.question import ask, system_columns, system_of
from hubdpo.data.converters.rendered import any_rendered
from hubdpo.data.pairs.example import PreferenceExample
from hubdpo.data.pairs.message_column import Columns, MessagesColumn, plain_texts, with_systems
from hubdpo.data.pairs.messages import first_of

CHOSEN, REJECTED = ("chosen", "chosen_response"), ("rejected", "rejected_response")
READS = ("prompt", CHOSEN, REJECTED)


def detect(row: dict[str, Any]) -> bool:
    answers = (first_of(row, CHOSEN), first_of(row, REJECTED))
    return isinstance(row.get("prompt"), (str, list)) and all(isinstance(value, (str, list, dict)) for value in answers)


def convert(row: dict[str, Any]) -> PreferenceExample:
    """Convert a row; with a text prompt, chosen and rejected may also be whole conversations that begin with it."""
    return ask(row.get("prompt"), system=system_of(row)).pair(first_of(row, CHOSEN), first_of(row, REJECTED))


def convert_many(rows: list[dict[str, Any]]) -> Columns | None:
    prompts, chosen, rejected = ([row.get(name) for row in rows] for name in COLUMNS)
    return many_from_texts(prompts, chosen, rejected, systems_of(rows))


def systems_of(rows: list[dict[str, Any]]) -> list[Any] | None:
    """Return what each row has in a column for the system prompt, or None when no row has one."""
    if not system_columns(tuple(sorted(set().union(*rows)))):
        return None
    return [system_of(row) for row in rows]


def many_from_texts(
    prompts: Sequence[Any], chosen: Sequence[Any], rejected: Sequence[Any], systems: Sequence[Any] | None = None
) -> Columns | None:
    """Make what `ask` and `pair` make of values that all are texts, none of them rendered, or return None."""
    texts = plain_texts(prompts), plain_texts(chosen), plain_texts(rejected)
    if texts[0] is None or texts[1] is None or texts[2] is None:
        return None
    asked = MessagesColumn.turns(texts[0], "user")
    answers = MessagesColumn.turns(texts[1], "assistant"), MessagesColumn.turns(texts[2], "assistant")
    if any(map(any_rendered, (asked, *answers))):
        return None
    whole = with_systems(asked, systems) if systems is not None else asked
    return (whole, *answers) if whole is not None else None
