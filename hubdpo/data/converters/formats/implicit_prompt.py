"""`implicit-prompt`: chosen and rejected are whole conversations (messages or ChatML) that share the prompt."""

from __future__ import annotations

import operator

import numpy as np

from hubdpo.artefacts.formats.messages import Message
from hubdpo.data.converters.contract import Converter
from hubdpo.data.converters.prompts import SYSTEM, read_prompt, system_of, systems_of
from hubdpo.data.converters.rendered_chats import CHATML, is_chatml, parse_chat
from hubdpo.data.pairs.example import UNRENDERED, PreferenceExample, Rejection, Row
from hubdpo.data.pairs.message_column import PairColumns, plain_messages, with_systems
from hubdpo.data.pairs.messages import ROLE_KEYS, first_of, messages_of

CHOSEN, REJECTED = ("chosen", "chosen_messages"), ("rejected", "rejected_messages")


def detect(row: Row) -> bool:
    return row.get("prompt") is None and all(_is_conversation(first_of(row, names)) for names in (CHOSEN, REJECTED))


def _is_conversation(value: object) -> bool:
    if isinstance(value, str):
        return is_chatml(value) and value.count(CHATML) > 1
    if not isinstance(value, list) or len(value) < 2:
        return False
    return all(isinstance(message, dict) and first_of(message, ROLE_KEYS) is not None for message in value)


def convert(row: Row) -> PreferenceExample:
    """Split at the longest common run of whole messages, never inside a message."""
    values = first_of(row, CHOSEN), first_of(row, REJECTED)
    pair = split(*map(_conversation, values), system=system_of(row))
    if str in map(type, values):
        pair.changes |= UNRENDERED
    return pair


def _conversation(value: object) -> list[Message]:
    return parse_chat(value) if isinstance(value, str) and is_chatml(value) else messages_of(value)


def split(chosen: list[Message], rejected: list[Message], *, system: object = None) -> PreferenceExample:
    """Make a pair of two conversations; `system` is the value of a system prompt column."""
    shared = _prompt_length(chosen, rejected)
    prompt = read_prompt(chosen[:shared], system=system)
    return PreferenceExample(prompt.messages, chosen[shared:], rejected[shared:], prompt.changes)


def _prompt_length(chosen: list[Message], rejected: list[Message]) -> int:
    """Return how many messages of the two conversations are the prompt."""
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
    prompt = chosen.select(~last, chosen.counts - 1)
    systems = systems_of(rows)
    whole = with_systems(prompt, systems) if systems is not None else prompt
    if whole is None:
        return None
    one_each = np.ones(len(rows), np.int64)
    return PairColumns(whole, chosen.select(last, one_each), rejected.select(last, one_each))


CONVERTER = Converter(
    "implicit-prompt",
    "whole conversations, no prompt",
    detect,
    convert,
    reads=(CHOSEN, REJECTED, SYSTEM),
    answers=(*CHOSEN, *REJECTED),
    convert_many=convert_many,
)
