"""The columns that people put a question in, and the way from them to a prompt."""

from __future__ import annotations

from typing import Any

from hubdpo.artefacts.formats.messages import Message
from hubdpo.data.converters.question import Question, ask, system_of
from hubdpo.data.pairs.example import Rejection, say

Reads = tuple[str | tuple[str | tuple[str, ...], ...], ...]
"""Columns that a converter reads: names, and groups of which it reads the first that has a value, alone or with others.

A name with a dot is a member of a column that is an object.
"""
WITH_INPUT = ("instruction", "question")
"""Columns to which `input` is a second part."""


def prompts(*names: str) -> tuple[str | tuple[str, ...], ...]:
    """Return the group for `Reads` that says what `ask_row` reads for these names."""
    return tuple((name, "input") if name in WITH_INPUT else name for name in names)


def ask_row(row: dict[str, Any], names: tuple[str, ...]) -> Question:
    """Read the prompt from the first of these columns that has a value; `input`, `history` and system go with it."""
    name = next((name for name in names if row.get(name) is not None), None)
    if name is None:
        raise Rejection("missing_field")
    value = row[name]
    if isinstance(value, dict) and isinstance(text := value.get("full_text"), str):  # as WebGPT has it
        value = text
    if name in WITH_INPUT and isinstance(value, str) and (more := row.get("input")):
        if not isinstance(more, str):
            raise Rejection("wrong_type")
        value += "\n" + more
    history = _history(row.get("history")) if name != "history" else []
    return ask(value, system=system_of(row), history=history)


def _history(value: Any) -> list[Message]:
    if value is None or value == "":
        return []
    if not isinstance(value, list):
        raise Rejection("wrong_type")
    messages: list[Message] = []
    for turn in value:
        if not is_two_texts(turn):
            raise Rejection("wrong_type")
        messages += say("user", turn[0]) + say("assistant", turn[1])
    return messages


def is_two_texts(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(isinstance(item, str) for item in value)
