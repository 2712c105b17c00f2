"""Count members of messages that hubdpo does not read, such as a speaker's name, a weight or an id."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain

from hubdpo.data.pairs.example import Row
from hubdpo.data.pairs.messages import (
    CONTENT_KEYS,
    REASONING,
    ROLE_KEYS,
    first_of,
    is_call,
    media_of,
    role_in,
    words_of,
)

SHARES = frozenset(("weight", "weights", "loss", "train", "trainable", "training", "learn"))
"""Words of members that weight the loss of a message. hubdpo scores all of an answer and nothing of a prompt."""
MASKS = frozenset(("mask", "masked", "skip", "ignore"))
ALL = ("1", "1.0", "true")
NOTHING = ("0", "0.0", "false")


def unread_members(column: str, values: Sequence[object]) -> Counter[str]:
    """Count messages, or lists of them, that have a member which is not read, under `column[].member`."""
    lists = [value for value in values if value.__class__ is list]
    try:
        if len(lists) == len(values) and set(map(len, chain.from_iterable(lists))) <= {2}:
            return Counter()  # nearly always: role and content
    except TypeError:
        pass  # numbers among them
    found: Counter[str] = Counter()
    for value in values:
        if value.__class__ is str:
            continue
        items = value if isinstance(value, list) else [value]
        names = {name for item in items if isinstance(item, dict) for name in _unread(item)}
        found.update(f"{column}[].{name}" for name in names)
    return found


def _unread(message: Row) -> Iterator[str]:
    role, content = role_in(message), first_of(message, CONTENT_KEYS)
    if role is None or content is None:
        return
    for name, held in message.items():
        if not isinstance(name, str) or name in ROLE_KEYS or held is None or held in ("", [], {}):
            continue
        if (name in CONTENT_KEYS and held == content) or is_call(name) or name in REASONING or media_of(name):
            continue  # read elsewhere, or a reason to drop the row
        words = set(words_of(name))
        if words & SHARES or words & MASKS:
            all_of_it = NOTHING if words & MASKS else ALL
            if role != "assistant" or str(held).lower() in all_of_it:
                continue
        yield name
