"""`preference`: prompt, chosen and rejected, each as text or as messages (trl dataset formats)."""

from __future__ import annotations

from typing import Any

from hubdpo.data.preference import Message, PreferenceExample, Rejection, messages_of, say


def detect(row: dict[str, Any]) -> bool:
    return all(isinstance(row.get(name), (str, list)) for name in ("prompt", "chosen", "rejected"))


def convert(row: dict[str, Any]) -> PreferenceExample:
    """Convert a row; with a text prompt, chosen and rejected may also be whole conversations that begin with it."""
    return from_values(row.get("prompt"), row.get("chosen"), row.get("rejected"))


def from_values(prompt: Any, chosen: Any, rejected: Any) -> PreferenceExample:
    asked = _messages(prompt, "user")
    return PreferenceExample(asked, _answer(chosen, asked), _answer(rejected, asked))


def _messages(value: Any, role: str) -> list[Message]:
    return say(role, value) if isinstance(value, str) else messages_of(value)


def _answer(value: Any, asked: list[Message]) -> list[Message]:
    messages = _messages(value, "assistant")
    if messages and messages[0]["role"] == "assistant":
        return messages
    # a whole conversation: it must repeat the prompt, or we would train on another question
    if messages[: len(asked)] != asked:
        raise Rejection("histories_differ")
    return messages[len(asked) :]
