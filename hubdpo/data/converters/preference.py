"""`preference`: prompt, chosen and rejected, each as text or as messages (trl dataset formats)."""

from __future__ import annotations

from typing import Any

from hubdpo.data.preference import PreferenceExample, answered, asked


def detect(row: dict[str, Any]) -> bool:
    return all(isinstance(row.get(name), (str, list)) for name in ("prompt", "chosen", "rejected"))


def convert(row: dict[str, Any]) -> PreferenceExample:
    """Convert a row; with a text prompt, chosen and rejected may also be whole conversations that begin with it."""
    return from_values(row.get("prompt"), row.get("chosen"), row.get("rejected"))


def from_values(prompt: Any, chosen: Any, rejected: Any) -> PreferenceExample:
    turns = asked(prompt)
    return PreferenceExample(turns, answered(chosen, turns), answered(rejected, turns))
