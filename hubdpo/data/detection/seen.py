"""The first rows as columns of their places, and a description of them that the rows do not contradict."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hubdpo import console
from hubdpo.config.description import MEANINGS, OPEN
from hubdpo.data.converters import ConvertOptions
from hubdpo.data.converters.places import as_list
from hubdpo.data.converters.prompts import WITH_INPUT
from hubdpo.data.converters.rendered_chats import is_rendered
from hubdpo.data.converters.vote_words import normalize
from hubdpo.data.detection import names as named
from hubdpo.data.detection.describe import beside
from hubdpo.data.detection.format_columns import Keys
from hubdpo.data.detection.held import EMPTY, Held
from hubdpo.data.detection.keys import as_options, compiled, is_open, plain_keys
from hubdpo.data.pairs.example import Rejection, Row
from hubdpo.data.pairs.messages import CONTENT_KEYS, ROLE_KEYS
from hubdpo.errors import ConfigError

MOST_VALUES = 4
LONGEST = 40


@dataclass(frozen=True)
class Suggestion:
    """What was found in rows that no converter reads, and how they may be described."""

    finding: str = ""
    """Continues a message, with `; ` in front."""
    keys: Keys | None = None
    """The description; `...` stands for what a person must say. None if nothing is known."""
    advice: str | None = None
    """What to do if no description helps."""
    left_out: tuple[str, ...] = ()
    """Columns that are no prompt."""
    tells_better: bool = True
    """Whether something in the rows may say which answer is better."""

    @property
    def is_complete(self) -> bool:
        return self.keys is not None and not any(map(is_open, self.keys.values()))

    @property
    def hint(self) -> str | None:
        """The options to paste, or None if a column is not known."""
        places = [key for key, value in (self.keys or {}).items() if is_open(value) and key not in (*MEANINGS, "roles")]
        return as_options(self.keys) if self.keys and not places else self.advice


class Seen:
    """The first rows, their places as columns, and those that hold text or messages."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.raw, self.held = rows, Held.of(rows)
        places = self.held.values
        self.spoken = [name for name, values in places.items() if 2 * sum(map(is_spoken, values)) >= len(values)]
        self.others = [name for name in places if name not in self.spoken]

    def values(self, name: str) -> list[Any]:
        """Return the values at a place, one after the other where a row has a list of them."""
        values = [item for value in self.held.values[name] for item in as_list(value)]
        return [value for value in values if value not in EMPTY]

    def texts(self, name: str) -> tuple[list[str], str]:
        """Return the different values at a place, and the first few of them as text."""
        texts = list(dict.fromkeys(map(normalize, self.values(name))))
        return texts, console.listed((text[:LONGEST] for text in texts), MOST_VALUES)

    def with_word(self, words: Iterable[str], *, without: Sequence[str]) -> list[str]:
        """Return the places whose names have one of these words and none against it, those without text first."""
        names = [name for name in (*self.others, *self.spoken) if name not in without]
        return [name for name in names if named.has_word(name, words) and not named.has_word(name, named.AGAINST)]

    def described(self, found: Suggestion) -> Suggestion:
        """Add the prompt, what is beside it, and the keys of messages; take back what the rows contradict."""
        if found.keys is None or "rows" in found.keys:
            return found
        answers = [name for key in ("chosen", "rejected", "answers", "answer") for name in as_list(found.keys.get(key))]
        taken = [name for value in found.keys.values() for name in as_list(value)]
        rest = [name for name in self.spoken if name not in (*taken, *found.left_out)]
        prompt = named.prompt_among(rest, [name for name in answers if name])
        if prompt is None and all(map(self.is_whole, filter(None, answers))):
            return replace(found, keys=self.checked({**found.keys, **self.speech(found.keys)}))
        of_prompt: Keys = {"prompt": OPEN if prompt is None else prompt}
        if prompt in WITH_INPUT and "input" in rest:
            of_prompt = {"prompt": [prompt, "input"]}
        keys = {**of_prompt, **found.keys}
        keys |= self.speech(keys)
        more = {key: place for key, place in beside(self.raw, keys).items() if place not in taken}
        keys = plain_keys(keys)
        return replace(found, keys=self.checked({**of_prompt, **more, **keys}) or self.checked(keys))

    def speech(self, keys: Keys) -> Keys:
        """Return the keys of messages and the unknown speakers at these places."""
        places = [name for value in keys.values() for name in as_list(value)]
        for speech in (self.held.speech[name] for name in places if name in self.held.speech):
            found: Keys = {}
            if speech.role_key not in ROLE_KEYS:
                found["role_key"] = speech.role_key
            if speech.content_key not in CONTENT_KEYS:
                found["content_key"] = speech.content_key
            if speech.unknown:
                found["roles"] = dict.fromkeys(speech.unknown, OPEN)
            if found:
                return found
        return {}

    def checked(self, keys: Keys) -> Keys | None:
        """Return a description with the meaning of a vote or label open if rows show that it is not known.

        None if it is complete and reads no row.
        """
        if any(map(is_open, keys.values())):
            return keys
        reasons = self.reasons(keys)
        if "unknown_label" in reasons:
            return keys | (dict.fromkeys(("good", "bad") if "label" in keys else ("first", "second"), OPEN))
        return keys if reasons & {None, "tie"} else None

    def is_whole(self, name: str) -> bool:
        """Whether a place holds whole conversations."""
        values = self.held.values[name]
        return any(
            is_rendered(value) if isinstance(value, str) else name in self.held.speech and len(as_list(value)) > 1
            for value in values
        )

    def reasons(self, keys: Keys) -> set[str | None]:
        """Return why rows are not read as a description says, None for those that are."""
        try:
            convert = compiled(keys, ConvertOptions())
        except ConfigError as problem:  # a column that has no name
            return {problem.message}
        reasons = set[str | None]()
        for row in self.raw:
            try:
                made = convert(row)
                pairs = list(made) if isinstance(made, Iterable) else [made]
                reasons |= {pair.reason if isinstance(pair, Rejection) else None for pair in pairs}
            except Rejection as rejection:
                reasons.add(rejection.reason)
        return reasons


def is_spoken(value: object) -> bool:
    """Return whether a value is text, or one or more messages."""
    if isinstance(value, list):
        return bool(value) and isinstance(value[0], dict)
    return bool(value.strip() if isinstance(value, str) else value) and isinstance(value, (dict, str))
