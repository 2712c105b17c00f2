"""One preference: a prompt, a chosen and a rejected answer, all as message lists; and its one schema."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

Message = dict[str, str]
ROLES = ("system", "user", "assistant", "tool")
COLUMNS = ("prompt", "chosen", "rejected")

# fixed, never inferred: Arrow would add null members where rows differ
MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))


@dataclass(slots=True)
class PreferenceExample:
    """`prompt` ends with a user or tool turn; `chosen` and `rejected` go on from there with the assistant."""

    prompt: list[Message]
    chosen: list[Message]
    rejected: list[Message]


@dataclass(slots=True)
class Rated:
    """Half a preference: one answer and its score. Answers to the same prompt, from other rows, make the pairs."""

    prompt: list[Message]
    answer: list[Message]
    score: float


class Rejection(Exception):
    """A row, or a pair of a row, that is left out, for a reason that is counted under its code."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


Made = PreferenceExample | Rated | Iterable[PreferenceExample | Rejection]
"""What a converter makes of a row: one pair, half a pair, or several pairs with a Rejection for each that fell out."""


def schema(keep: list[str]) -> pa.Schema:
    """Return the schema of a split: the three message columns, then the kept columns as text."""
    return pa.schema([(name, MESSAGES) for name in COLUMNS] + [(name, pa.string()) for name in keep])


def text_of(row: dict[str, Any], key: str) -> str:
    """Return a text field. Raise Rejection when it is missing, null or not text."""
    value = row.get(key)
    if value is None:
        raise Rejection("missing_field")
    if not isinstance(value, str):
        raise Rejection("wrong_type")
    return value


def number_of(value: Any) -> float:
    """Return a finite number, also one written as text. Raise Rejection for anything else; a bool is no number."""
    if value is None:
        raise Rejection("missing_field")
    try:
        number = float(value) if not isinstance(value, bool) else float("nan")
    except (TypeError, ValueError):
        raise Rejection("wrong_type") from None
    if not -1e308 < number < 1e308:
        raise Rejection("wrong_type")
    return number


def messages_of(value: Any) -> list[Message]:
    """Return a list of `{role, content}`, other members left out. Raise Rejection when it is anything else.

    Content written as typed parts is joined when every part is text.
    """
    if value is None:
        raise Rejection("missing_field")
    if not isinstance(value, list):
        raise Rejection("wrong_type")
    for item in value:
        if type(item) is not dict or len(item) != 2:
            break
        if type(item.get("role")) is not str or type(item.get("content")) is not str:
            break
    else:
        return value  # nearly always: nothing to leave out, so nothing to copy
    messages = []
    for item in value:
        if not isinstance(item, dict):
            raise Rejection("wrong_type")
        role, content = item.get("role"), item.get("content")
        if isinstance(content, list):
            content = _joined(content)
        if not isinstance(role, str) or not isinstance(content, str):
            raise Rejection("wrong_type")
        messages.append({"role": role, "content": content})
    return messages


def _joined(parts: list[Any]) -> str | None:
    texts = [part.get("text") if isinstance(part, dict) and part.get("type") == "text" else None for part in parts]
    whole = [text for text in texts if isinstance(text, str)]
    return "".join(whole) if whole and len(whole) == len(texts) else None


def say(role: str, content: str) -> list[Message]:
    return [{"role": role, "content": content}]


def asked(value: Any) -> list[Message]:
    """Return a prompt given as text (one user turn) or as messages."""
    return say("user", value) if isinstance(value, str) else messages_of(value)


def answered(value: Any, prompt: list[Message]) -> list[Message]:
    """Return an answer given as text, as one message, as assistant messages or as a conversation with its prompt.

    Raise Rejection when the conversation does not begin with `prompt`: it would answer another question.
    """
    if isinstance(value, str):
        return say("assistant", value)
    messages = messages_of([value] if isinstance(value, dict) else value)
    if not messages or messages[0]["role"] == "assistant":
        return messages
    if messages[: len(prompt)] != prompt:
        raise Rejection("histories_differ")
    return messages[len(prompt) :]
