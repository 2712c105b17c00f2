"""`alpaca`: instruction, input, chosen, rejected, as LLaMA-Factory and the Orca pairs write them."""

from __future__ import annotations

from typing import Any

from hubdpo.data.preference import Message, PreferenceExample, Rejection, answered, say, text_of

QUESTIONS = ("instruction", "question", "input")


def detect(row: dict[str, Any]) -> bool:
    if row.get("prompt") is not None or not any(isinstance(row.get(name), str) for name in QUESTIONS):
        return False
    return all(isinstance(row.get(name), str) for name in ("chosen", "rejected")) or _two(row.get("output"))


def convert(row: dict[str, Any]) -> PreferenceExample:
    """Convert a row: system and history first, then instruction and input as one turn; `output` is [better, worse]."""
    if row.get("status") == "tie":  # how the Orca pairs of distilabel mark what their judge could not tell apart
        raise Rejection("tie")
    prompt = [*_system(row), *_history(row.get("history")), *say("user", _question(row))]
    chosen, rejected = row.get("chosen"), row.get("rejected")
    if chosen is None and rejected is None:
        output = row.get("output")
        if not _two(output):
            raise Rejection("missing_field" if output is None else "wrong_type")
        chosen, rejected = output  # type: ignore[misc]  # _two has seen that it is a list of two
    return PreferenceExample(prompt, answered(chosen, prompt), answered(rejected, prompt))


def _two(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(isinstance(item, str) for item in value)


def _system(row: dict[str, Any]) -> list[Message]:
    return say("system", text_of(row, "system")) if row.get("system") else []


def _question(row: dict[str, Any]) -> str:
    name = next((name for name in QUESTIONS if row.get(name) is not None), "instruction")
    question = text_of(row, name)
    if name != "input" and row.get("input"):
        question += "\n" + text_of(row, "input")
    return question


def _history(value: Any) -> list[Message]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise Rejection("wrong_type")
    messages: list[Message] = []
    for turn in value:
        if not _two(turn):
            raise Rejection("wrong_type")
        messages += say("user", turn[0]) + say("assistant", turn[1])
    return messages
