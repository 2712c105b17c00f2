"""`openai`: input.messages with preferred_output and non_preferred_output (OpenAI's preference fine-tuning files)."""

from __future__ import annotations

from typing import Any

from hubdpo.data.converters.question import ask, system_of
from hubdpo.data.pairs.example import PreferenceExample, Rejection

READS = ("input.messages", "preferred_output", "non_preferred_output")


def detect(row: dict[str, Any]) -> bool:
    return all(row.get(name) is not None for name in ("input", "preferred_output", "non_preferred_output"))


def convert(row: dict[str, Any]) -> PreferenceExample:
    """Convert a row; some writers make `input` the bare list of messages."""
    asked = row.get("input")
    messages = asked.get("messages") if isinstance(asked, dict) else asked
    if isinstance(messages, str):
        raise Rejection("wrong_type")
    question = ask(messages, system=system_of(row))
    return question.pair(row.get("preferred_output"), row.get("non_preferred_output"))
