"""`implicit-prompt`: chosen and rejected are whole conversations; the prompt is the messages that they share."""

from __future__ import annotations

from typing import Any

from hubdpo.data.preference import PreferenceExample, Rejection, messages_of


def detect(row: dict[str, Any]) -> bool:
    return row.get("prompt") is None and all(_is_conversation(row.get(name)) for name in ("chosen", "rejected"))


def _is_conversation(value: Any) -> bool:
    return isinstance(value, list) and len(value) > 1 and all(isinstance(m, dict) and "role" in m for m in value)


def convert(row: dict[str, Any]) -> PreferenceExample:
    """Split at the longest common run of whole messages, never inside one."""
    chosen, rejected = messages_of(row.get("chosen")), messages_of(row.get("rejected"))
    shared = len(chosen) - 1
    if len(rejected) == len(chosen) > 1 and chosen[:shared] == rejected[:shared] and chosen[shared] != rejected[shared]:
        return PreferenceExample(chosen[:shared], chosen[shared:], rejected[shared:])
    shared = 0
    while shared < min(len(chosen), len(rejected)) and chosen[shared] == rejected[shared]:
        shared += 1
    if shared == len(chosen) == len(rejected):
        raise Rejection("identical_answers")
    # an answer that is a beginning of the other one: the border is before the assistant's last common turn
    while shared and chosen[shared - 1]["role"] == "assistant":
        shared -= 1
    if shared == 0:
        raise Rejection("histories_differ")
    return PreferenceExample(chosen[:shared], chosen[shared:], rejected[shared:])
