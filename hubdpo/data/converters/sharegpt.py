"""`sharegpt`: a conversation in a column and two answers to it, as LLaMA-Factory, axolotl and ms-swift write them."""

from __future__ import annotations

from typing import Any

from hubdpo.data.converters import implicit_prompt
from hubdpo.data.converters.question import ask, system_of
from hubdpo.data.pairs.example import PreferenceExample, Rejection
from hubdpo.data.pairs.messages import ROLE_KEYS, first_of, messages_of, role_of

TURNS = ("conversations", "conversation", "messages", "context")
REJECTED = ("rejected_response", "rejected_messages")
READS = (TURNS, "chosen", ("rejected", *REJECTED))


def detect(row: dict[str, Any]) -> bool:
    turns = first_of(row, TURNS)
    if row.get("prompt") is not None or not isinstance(turns, list) or not turns:
        return False
    if not all(isinstance(turn, dict) and first_of(turn, ROLE_KEYS) is not None for turn in turns):
        return False
    if first_of(row, REJECTED) is not None:
        return True
    return all(row.get(name) is not None and not _is_whole(row[name]) for name in ("chosen", "rejected"))


def _is_whole(answer: Any) -> bool:
    """Tell a conversation with its own prompt, beside which the other column is no prompt."""
    first = answer[0] if isinstance(answer, list) and answer else None
    role = first_of(first, ROLE_KEYS) if isinstance(first, dict) else None
    return isinstance(role, str) and role_of(role) in ("system", "user")


def convert(row: dict[str, Any]) -> PreferenceExample:
    """Convert a row; with `rejected_response` or `rejected_messages` the conversation ends with the chosen answer."""
    turns = first_of(row, TURNS)
    if not isinstance(turns, list):
        raise Rejection("missing_field" if turns is None else "wrong_type")
    if row.get("chosen") is not None or row.get("rejected") is not None:
        return ask(turns, system=system_of(row)).pair(row.get("chosen"), row.get("rejected"))
    whole = messages_of(turns)
    if not whole or whole[-1]["role"] != "assistant":
        raise Rejection("does_not_end_with_assistant")
    if (value := row.get("rejected_messages")) is not None:
        other = messages_of(value)
        if other and other[0]["role"] != "assistant":
            return implicit_prompt.split(whole, other, system_of(row))
        return ask(whole[:-1], system=system_of(row)).pair(whole[-1:], other)
    return ask(whole[:-1], system=system_of(row)).pair(whole[-1:], row.get("rejected_response"))
