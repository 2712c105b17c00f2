"""`implicit-prompt`: chosen and rejected are whole conversations; the prompt is the messages that they share."""

from __future__ import annotations

import operator
from itertools import compress
from typing import Any

import numpy as np

from hubdpo.data.columns import Columns, MessagesColumn, plain_messages
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
    return prompt, _last(chosen, last), _last(rejected, last)


def _last(column: MessagesColumn, last: Any) -> MessagesColumn:
    return MessagesColumn.of(list(compress(column.texts, last)), bytes(compress(column.roles, last)))
