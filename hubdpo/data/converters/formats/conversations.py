"""`implicit-prompt`, two whole conversations that share the prompt, and `sharegpt`, one conversation and two answers.

The first may be messages or ChatML. LLaMA-Factory, axolotl and ms-swift write the second.
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from hubdpo.artefacts.formats.messages import Message
from hubdpo.data.converters.contract import Converter
from hubdpo.data.converters.prompts import SYSTEM, read_prompt, system_of, system_turn, systems_of
from hubdpo.data.converters.rendered_chats import CHATML, is_chatml, parse_chat
from hubdpo.data.pairs.example import UNRENDERED, PreferenceExample, Rejection, Row, expect
from hubdpo.data.pairs.message_column import PairColumns, plain_messages, with_systems
from hubdpo.data.pairs.messages import ROLE_KEYS, first_of, messages_of, role_in

CHOSEN, REJECTED = (
    (side, f"{side}_messages", f"{side}_conversations") for side in ("chosen", "rejected")
)  # torchtune has the last
CONVERSATIONS = ("conversations", "conversation", "messages", "context", "trajectory")
CHOSEN_ANSWER = ("chosen", "chosen_response")
OTHER_ANSWER = ("rejected", "rejected_response", "rejected_messages")


def detect(row: Row) -> bool:
    return row.get("prompt") is None and all(_is_conversation(first_of(row, names)) for names in (CHOSEN, REJECTED))


def _is_conversation(value: Any) -> bool:
    if isinstance(value, str):
        return is_chatml(value) and value.count(CHATML) > 1
    if isinstance(value, dict):
        value = value.get("messages")
    return _are_turns(value) and len(value) > 1


def _are_turns(value: Any) -> bool:
    if not isinstance(value, list) or not value:
        return False
    return all(isinstance(turn, dict) and first_of(turn, ROLE_KEYS) is not None for turn in value)


def convert(row: Row) -> PreferenceExample:
    """Split at the longest common run of whole messages, never inside a message."""
    return split_whole(first_of(row, CHOSEN), first_of(row, REJECTED), system=system_of(row))


def split_whole(chosen: object, rejected: object, *, system: object = None) -> PreferenceExample:
    """Make a pair of two whole conversations, given as messages, ChatML or transcripts."""
    pair = split(conversation_of(chosen), conversation_of(rejected), system=system)
    if isinstance(chosen, str) or isinstance(rejected, str):
        pair.changes |= UNRENDERED
    return pair


def conversation_of(value: object) -> list[Message]:
    """Read a conversation: messages, ChatML, a transcript, or LMFlow's object with a system prompt beside them."""
    if isinstance(value, str):
        return parse_chat(value)
    if not isinstance(value, dict):
        return messages_of(value)
    return [*system_turn(value.get("system")), *messages_of(value.get("messages"))]


def split(chosen: list[Message], rejected: list[Message], *, system: object = None) -> PreferenceExample:
    """Make a pair of two conversations; `system` is the value of a system prompt column."""
    shared = _prompt_length(chosen, rejected)
    prompt = read_prompt(chosen[:shared], system=system)
    return PreferenceExample(prompt.messages, chosen[shared:], rejected[shared:], prompt.changes)


def _prompt_length(chosen: list[Message], rejected: list[Message]) -> int:
    before_last = len(chosen) - 1
    if len(rejected) == len(chosen) > 1 and chosen[:before_last] == rejected[:before_last]:
        if chosen[before_last] != rejected[before_last]:
            return before_last
        raise Rejection("identical_answers")
    shared = 0
    while shared < min(len(chosen), len(rejected)) and chosen[shared] == rejected[shared]:
        shared += 1
    if shared == len(chosen) == len(rejected):
        raise Rejection("identical_answers")
    # Where one answer continues the other, the shared assistant turns belong to the answers: a prompt does not end
    # with the assistant.
    while shared and chosen[shared - 1]["role"] == "assistant":
        shared -= 1
    if shared == 0:
        raise Rejection("histories_differ")
    return shared


def convert_many(rows: list[Row]) -> PairColumns | None:
    """Convert rows whose two conversations differ in their last message and nowhere else."""
    chosen = plain_messages([row.get("chosen") for row in rows])
    rejected = plain_messages([row.get("rejected") for row in rows])
    if chosen is None or rejected is None or not np.array_equal(chosen.counts, rejected.counts):
        return None
    if (chosen.counts < 2).any():
        return None
    # bool (messages,), for chosen and rejected alike as their counts are equal
    last = np.zeros(len(chosen.texts), bool)
    last[chosen.ends[1:] - 1] = True
    same = np.fromiter(map(operator.eq, chosen.texts, rejected.texts), bool, len(last))
    same &= chosen.role_codes == rejected.role_codes
    if not (same ^ last).all():
        return None
    prompt = with_systems(chosen.select(~last, chosen.counts - 1), systems_of(rows))
    if prompt is None:
        return None
    one_each = np.ones(len(rows), np.int64)
    return PairColumns(prompt, chosen.select(last, one_each), rejected.select(last, one_each))


def detect_sharegpt(row: Row) -> bool:
    if row.get("prompt") is not None or not _are_turns(first_of(row, CONVERSATIONS)):
        return False
    beside = (first_of(row, CHOSEN_ANSWER), first_of(row, OTHER_ANSWER[:2]))
    return first_of(row, OTHER_ANSWER) is not None and not any(map(_has_own_prompt, beside))


def _has_own_prompt(answer: object) -> bool:
    """Return whether an answer is a whole conversation; the conversation column then is not its prompt."""
    return isinstance(answer, list) and bool(answer) and role_in(answer[0]) in ("system", "user")


def convert_sharegpt(row: Row) -> PreferenceExample:
    """Convert a row. Without a chosen answer beside it, the conversation ends with that answer."""
    turns = expect(first_of(row, CONVERSATIONS), list)
    system = system_of(row)
    rejected = first_of(row, OTHER_ANSWER[:2])
    if (answer := first_of(row, CHOSEN_ANSWER)) is not None:
        return read_prompt(turns, system=system).pair(answer, rejected)
    chosen = messages_of(turns)
    if not chosen or chosen[-1]["role"] != "assistant":
        raise Rejection("does_not_end_with_assistant")
    if (value := row.get("rejected_messages")) is not None:
        rejected = messages_of(value)
        if rejected and rejected[0]["role"] != "assistant":
            return split(chosen, rejected, system=system)
    return read_prompt(chosen[:-1], system=system).pair(chosen[-1:], rejected)


READS, ANSWERS = (CHOSEN, REJECTED, SYSTEM), (*CHOSEN, *REJECTED)
IMPLICIT_PROMPT = Converter(
    "implicit-prompt", "whole conversations, no prompt", detect, convert, READS, ANSWERS, convert_many
)
SHAREGPT_READS = (CONVERSATIONS, CHOSEN_ANSWER, OTHER_ANSWER, SYSTEM)
SHAREGPT = Converter(
    "sharegpt", "conversations with two answers", detect_sharegpt, convert_sharegpt, SHAREGPT_READS, OTHER_ANSWER
)
