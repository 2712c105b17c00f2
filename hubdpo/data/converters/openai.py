"""`openai`: input.messages with preferred_output and non_preferred_output (OpenAI's preference fine-tuning files)."""

from __future__ import annotations

from typing import Any

from hubdpo.data.preference import PreferenceExample, answered, messages_of


def detect(row: dict[str, Any]) -> bool:
    return all(row.get(name) is not None for name in ("input", "preferred_output", "non_preferred_output"))


def convert(row: dict[str, Any]) -> PreferenceExample:
    """Convert a row; some writers make `input` the bare list of messages."""
    asked = row.get("input")
    prompt = messages_of(asked.get("messages") if isinstance(asked, dict) else asked)
    return PreferenceExample(
        prompt, answered(row.get("preferred_output"), prompt), answered(row.get("non_preferred_output"), prompt)
    )
