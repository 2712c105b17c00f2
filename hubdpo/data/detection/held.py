"""The places of rows with what they hold, so that columns and the members of their objects are looked at alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple

from hubdpo.artefacts.formats.messages import ROLES
from hubdpo.data.converters.places import EACH, opened
from hubdpo.data.pairs.example import Row
from hubdpo.data.pairs.messages import CONTENT_KEYS, ROLE_KEYS, role_of

DEEPEST = 3
"""Objects and lists inside each other that are looked into."""
SPEAKERS = ("speaker", "author", "sender", "who", "by", "participant", "actor", "user")
"""Other keys of messages that name the speaker."""
SAID = ("message", "utterance", "said", "says", "msg", "body", "sentence", "contents")
"""Other keys of messages with what is said."""
MOST_SPEAKERS = 4
MOST_MEMBERS = 64
"""Members of objects that are looked at; where there are more, their keys are no names."""
EMPTY: tuple[Any, ...] = (None, "", [], {})


class Speech(NamedTuple):
    """The keys of messages, and the speakers whose roles are not known."""

    role_key: str
    content_key: str
    unknown: list[str]


@dataclass
class Held:
    """What the first rows hold at each place that leads no further: `question.text`, `completions[].response`."""

    values: dict[str, list[Any]] = field(default_factory=dict)
    """The value of each row, None where it has none."""
    speech: dict[str, Speech] = field(default_factory=dict)
    """The keys of messages, by the place that holds them."""
    lists: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, rows: Sequence[Row], depth: int = DEEPEST, prefix: str = "") -> Held:
        held = cls()
        names = dict.fromkeys(name for row in rows for name in row if isinstance(name, str))
        for name in names if len(names) <= MOST_MEMBERS or not prefix else ():
            leads_on = "." not in name and EACH not in name
            if leads_on or not prefix:
                held._look(f"{prefix}{name}", [row.get(name) for row in rows], depth if leads_on else 0)
        return held

    def _look(self, path: str, values: list[Any], depth: int) -> None:
        held = [opened(value) for value in values]
        if depth == 0 or any(isinstance(value, str) and value for value in held):
            held = values  # some texts hold JSON, as a text may
        there = [value for value in held if value not in EMPTY]
        items = [item for value in there if isinstance(value, list) for item in value]
        if depth and _most_are(dict, there) and not _are_messages(there):
            self._add(Held.of([value if isinstance(value, dict) else {} for value in held], depth - 1, f"{path}."))
        elif _most_are(list, there) and _most_are(dict, items) and (speech := speech_of(items)):
            self.values[path], self.speech[path] = held, speech
        elif depth and EACH not in path and _most_are(list, there) and _most_are(dict, items):
            self._add(_of_each(path, held, depth - 1))
            self.lists.append(path)
        else:
            self.values[path] = held if _most_are(list, there) else values

    def _add(self, other: Held) -> None:
        self.values |= other.values
        self.speech |= other.speech
        self.lists += other.lists


def _of_each(path: str, lists: list[Any], depth: int) -> Held:
    """Return the places of the items of lists, each with a list for each row."""
    rows = [
        [item if isinstance(item, dict) else {} for item in some] if isinstance(some, list) else [] for some in lists
    ]
    held = Held.of([item for items in rows for item in items], depth, f"{path}{EACH}.")
    for name, values in held.values.items():
        each = iter(values)
        held.values[name] = [list(islice(each, len(items))) or None for items in rows]
    return held


def speech_of(messages: Sequence[Any]) -> Speech | None:
    """Return the keys of messages, or None if these objects are something else."""
    items = [item for item in messages if isinstance(item, dict)]
    texts: dict[str, list[str]] = {}
    for key, value in ((key, value) for item in items for key, value in item.items()):
        if isinstance(value, str):
            texts.setdefault(key, []).append(value)
    by_role = [key for key, names in texts.items() if all(role_of(name) in ROLES for name in names)]
    # the author of an answer with a score is no speaker
    is_plain = not any(isinstance(value, (int, float)) for item in items for value in item.values())
    role = next((key for key in (*ROLE_KEYS, *by_role, *(SPEAKERS if is_plain else ())) if key in texts), None)
    if role is None or len(names := list(dict.fromkeys(texts[role]))) > MOST_SPEAKERS:
        return None
    keys = {key for item in items for key in item}
    others = [key for key in texts if key != role]
    content = next((key for key in (*CONTENT_KEYS, *SAID) if key in keys and key != role), None)
    if content is None and len(others) != 1:
        return None
    return Speech(role, content or others[0], [name for name in names if role_of(name) not in ROLES])


def _are_messages(values: Sequence[Any]) -> bool:
    speech = speech_of(values)
    return speech is not None and speech.role_key in ROLE_KEYS and speech.content_key in CONTENT_KEYS


def _most_are(kind: type, values: Sequence[Any]) -> bool:
    return 2 * sum(isinstance(value, kind) for value in values) > len(values)
