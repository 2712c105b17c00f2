"""One preference: a prompt, a chosen and a rejected answer, all as message lists; and its one schema."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa

Message = dict[str, str]
ROLES = ("system", "user", "assistant", "tool")
COLUMNS = ("prompt", "chosen", "rejected")

# fixed, never inferred: Arrow would add null members where rows differ
MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))


@dataclass(frozen=True)
class PreferenceExample:
    """`prompt` ends with a user or tool turn; `chosen` and `rejected` go on from there with the assistant."""

    prompt: list[Message]
    chosen: list[Message]
    rejected: list[Message]


class Rejection(Exception):
    """A row that is left out, for a reason that is counted under its code."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


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


def messages_of(value: Any) -> list[Message]:
    """Return a list of `{role, content}`, other members left out. Raise Rejection when it is anything else."""
    if value is None:
        raise Rejection("missing_field")
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise Rejection("wrong_type")
    messages = []
    for item in value:
        role, content = item.get("role"), item.get("content")
        if not isinstance(role, str) or not isinstance(content, str):
            raise Rejection("wrong_type")
        messages.append({"role": role, "content": content})
    return messages


def say(role: str, content: str) -> list[Message]:
    return [{"role": role, "content": content}]
