"""`sharegpt`: conversations of {from, value} with two answers, as LLaMA-Factory writes them."""

from __future__ import annotations

from typing import Any

from hubdpo.data.preference import Message, PreferenceExample, Rejection, say

ROLE = {
    "human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "function_call": "assistant",
    "system": "system", "observation": "tool", "tool": "tool",
}  # fmt: skip


def detect(row: dict[str, Any]) -> bool:
    turns = row.get("conversations")
    spoken = isinstance(turns, list) and bool(turns) and all(isinstance(t, dict) and "from" in t for t in turns)
    return spoken and row.get("chosen") is not None and row.get("rejected") is not None


def convert(row: dict[str, Any]) -> PreferenceExample:
    """Convert a row; a `system` text beside the conversation becomes its first turn."""
    turns = row.get("conversations")
    if not isinstance(turns, list):
        raise Rejection("missing_field" if turns is None else "wrong_type")
    prompt = [_message(turn) for turn in turns]
    if isinstance(system := row.get("system"), str) and system and prompt and prompt[0]["role"] != "system":
        prompt = [*say("system", system), *prompt]
    return PreferenceExample(prompt, _answer(row.get("chosen")), _answer(row.get("rejected")))


def _answer(value: Any) -> list[Message]:
    if value is None:
        raise Rejection("missing_field")
    return say("assistant", value) if isinstance(value, str) else [_message(value)]


def _message(turn: Any) -> Message:
    if not isinstance(turn, dict) or not isinstance(turn.get("value"), str):
        raise Rejection("wrong_type")
    role = ROLE.get(str(turn.get("from")))
    if role is None:
        raise Rejection("unknown_role")
    return {"role": role, "content": turn["value"]}
