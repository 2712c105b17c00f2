"""`sharegpt`: a conversation in one column and two answers to it, as LLaMA-Factory, axolotl and ms-swift write it."""

from __future__ import annotations

from hubdpo.data.converters.contract import Converter
from hubdpo.data.converters.formats import implicit_prompt
from hubdpo.data.converters.prompts import SYSTEM, read_prompt, system_of
from hubdpo.data.pairs.example import PreferenceExample, Rejection, Row
from hubdpo.data.pairs.messages import ROLE_KEYS, first_of, messages_of, role_of

CONVERSATIONS = ("conversations", "conversation", "messages", "context")
REJECTED = ("rejected_response", "rejected_messages")


def detect(row: Row) -> bool:
    turns = first_of(row, CONVERSATIONS)
    if row.get("prompt") is not None or not isinstance(turns, list) or not turns:
        return False
    if not all(isinstance(turn, dict) and first_of(turn, ROLE_KEYS) is not None for turn in turns):
        return False
    if first_of(row, REJECTED) is not None:
        return True
    return all(row.get(name) is not None and not _has_own_prompt(row[name]) for name in ("chosen", "rejected"))


def _has_own_prompt(answer: object) -> bool:
    """Return whether an answer is a whole conversation; the conversation column then is not its prompt."""
    first = answer[0] if isinstance(answer, list) and answer else None
    role = first_of(first, ROLE_KEYS) if isinstance(first, dict) else None
    return isinstance(role, str) and role_of(role) in ("system", "user")


def convert(row: Row) -> PreferenceExample:
    """Convert a row. With `rejected_response` or `rejected_messages`, the conversation ends with the chosen answer."""
    turns = first_of(row, CONVERSATIONS)
    if not isinstance(turns, list):
        raise Rejection("missing_field" if turns is None else "wrong_type")
    system = system_of(row)
    if row.get("chosen") is not None or row.get("rejected") is not None:
        return read_prompt(turns, system=system).pair(row.get("chosen"), row.get("rejected"))
    chosen = messages_of(turns)
    if not chosen or chosen[-1]["role"] != "assistant":
        raise Rejection("does_not_end_with_assistant")
    rejected = row.get("rejected_response")
    if (value := row.get("rejected_messages")) is not None:
        rejected = messages_of(value)
        if rejected and rejected[0]["role"] != "assistant":
            return implicit_prompt.split(chosen, rejected, system=system)
    return read_prompt(chosen[:-1], system=system).pair(chosen[-1:], rejected)


CONVERTER = Converter(
    "sharegpt",
    "conversations with two answers",
    detect,
    convert,
    reads=(CONVERSATIONS, "chosen", ("rejected", *REJECTED), SYSTEM),
    answers=REJECTED,
)
