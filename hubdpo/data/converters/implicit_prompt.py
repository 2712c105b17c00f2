"""`implicit-prompt`: chosen and rejected are whole conversations, messages or ChatML; the prompt is what they share."""

from __future__ import annotations

import operator
from itertools import compress
from typing import Any

import numpy as np

from hubdpo.artefacts.formats.messages import Message
from hubdpo.data.converters.preference import systems_of
from hubdpo.data.converters.question import ask, system_of
from hubdpo.data.converters.rendered import CHATML, is_chatml, turns_of
from hubdpo.data.pairs.changes import UNRENDERED
from hubdpo.data.pairs.example import PreferenceExample, Rejection
from hubdpo.data.pairs.message_column import Columns, MessagesColumn, plain_messages, with_systems
from hubdpo.data.pairs.messages import ROLE_KEYS, first_of, messages_of

CHOSEN, REJECTED = ("chosen", "chosen_messages"), ("rejected", "rejected_messages")
READS = (CHOSEN, REJECTED)


def detect(row: dict[str, Any]) -> bool:
    return row.get("prompt") is None and all(_is_conversation(first_of(row, names)) for names in (CHOSEN, REJECTED))


def _is_conversation(value: Any) -> bool:
    if isinstance(value, str):
        return is_chatml(value) and value.count(CHATML) > 1
    return (
        isinstance(value, list) and len(value) > 1
        and all(isinstance(m, dict) and first_of(m, ROLE_KEYS) is not None for m in value)
    )  # fmt: skip


def convert(row: dict[str, Any]) -> PreferenceExample:
    """Split at the longest common run of whole messages, never inside one."""
    values = first_of(row, CHOSEN), first_of(row, REJECTED)
    chosen, rejected = map(_conversation, values)
    made = split(chosen, rejected, system_of(row))
    if str in map(type, values):
        made.changes |= UNRENDERED
    return made


def _conversation(value: Any) -> list[Message]:
    return turns_of(value) if isinstance(value, str) and is_chatml(value) else messages_of(value)


def split(chosen: list[Message], rejected: list[Message], system: Any = None) -> PreferenceExample:
    """Make a pair of two conversations; `system` is the text of a column beside them."""
    shared = _shared(chosen, rejected)
    question = ask(chosen[:shared], system=system)
    return PreferenceExample(question.prompt, chosen[shared:], rejected[shared:], question.changes)


def _shared(chosen: list[Message], rejected: list[Message]) -> int:
    """Return how many messages are the prompt."""
    shared = len(chosen) - 1
    if len(rejected) == len(chosen) > 1 and chosen[:shared] == rejected[:shared] and chosen[shared] != rejected[shared]:
        return shared
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
    return shared


def convert_many(rows: list[dict[str, Any]]) -> Columns | None:
    """Convert rows whose conversations differ in their last message alone."""
    chosen = plain_messages([row.get("chosen") for row in rows])
    rejected = plain_messages([row.get("rejected") for row in rows])
    if chosen is None or rejected is None or not np.array_equal(chosen.counts, rejected.counts):
        return None
    if (chosen.counts < 2).any():
        return None
    last = np.zeros(len(chosen.texts), bool)
    last[chosen.ends[1:] - 1] = True
    same = np.fromiter(map(operator.eq, chosen.texts, rejected.texts), bool, len(last))
    same &= np.frombuffer(chosen.roles, np.uint8) == np.frombuffer(rejected.roles, np.uint8)
    if not (same ^ last).all():
        return None
    prompt = MessagesColumn.of(
        list(compress(chosen.texts, ~last)), bytes(compress(chosen.roles, ~last)), chosen.counts - 1
    )
    systems = systems_of(rows)
    whole = with_systems(prompt, systems) if systems is not None else prompt
    return (whole, _last(chosen, last), _last(rejected, last)) if whole is not None else None


def _last(column: MessagesColumn, last: Any) -> MessagesColumn:
    return MessagesColumn.of(list(compress(column.texts, last)), bytes(compress(column.roles, last)))
