"""The columns of a description, compiled: where each part of a row is, and how it is read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from hubdpo.config.description import Description
from hubdpo.config.name_values import read_pairs
from hubdpo.data.converters.formats.conversations import conversation_of, split_whole
from hubdpo.data.converters.formats.scored import score_of
from hubdpo.data.converters.places import Place, as_list, listed, sides_of
from hubdpo.data.converters.prompts import Prompt, Reads, history_of, read_prompt
from hubdpo.data.converters.rendered_chats import is_rendered
from hubdpo.data.converters.vote_columns import ONE_OF_THREE
from hubdpo.data.converters.vote_words import Sides, normalize
from hubdpo.data.pairs.example import PreferenceExample, Rejection, Row, expect
from hubdpo.data.pairs.messages import CONTENT_KEYS, ROLE_KEYS, first_of, role_in


@dataclass(frozen=True)
class Speech:
    """Keys and speakers of messages that hubdpo does not know by itself."""

    role_key: str | None
    content_key: str | None
    roles: tuple[tuple[str, str], ...]

    def read(self, value: Any) -> Any:
        """Return messages, also those in JSON, with the keys and roles that hubdpo knows; other values as they are."""
        if isinstance(value, str) and isinstance(held := listed(value), list) and held and isinstance(held[0], dict):
            value = held
        if isinstance(value, list):
            return [self.read(item) for item in value]
        role_keys, content_keys = _keys(self.role_key, ROLE_KEYS), _keys(self.content_key, CONTENT_KEYS)
        if not isinstance(value, dict) or (name := first_of(value, role_keys)) is None:
            return value
        others = {key: held for key, held in value.items() if key not in (*role_keys, *content_keys)}
        return {"role": dict(self.roles).get(str(name), name), "content": first_of(value, content_keys), **others}

    def speakers(self, value: Any) -> Iterator[str]:
        """Yield the names of the speakers of all messages in a value, at any depth."""
        held = listed(value) if isinstance(value, str) else value
        for item in held.values() if isinstance(held, dict) else held if isinstance(held, list) else ():
            yield from self.speakers(item)
        if isinstance(held, dict) and (name := first_of(held, _keys(self.role_key, ROLE_KEYS))) is not None:
            yield str(name)


def _keys(own: str | None, known: tuple[str, ...]) -> tuple[str, ...]:
    return known if own is None else (own,)


SINGLE = ("chosen", "rejected", "answer", "system", "tools", "history", "label", "margin")
"""Parts of a row in one place each; those of the answers first."""


@dataclass(frozen=True)
class Columns:
    """A description, compiled: the place of each part of a row."""

    prompt: tuple[Place, ...]
    system: Place | None
    tools: Place | None
    history: Place | None
    chosen: Place | None
    rejected: Place | None
    answers: tuple[Place, ...]
    scores: tuple[Place, ...]
    ranks: tuple[Place, ...]
    vote: tuple[Place, ...]
    answer: Place | None
    label: Place | None
    margin: Place | None
    speech: Speech | None
    base: int | None
    """The number of the first answer, where a vote is the number of the best."""
    ties: tuple[str, ...]

    @classmethod
    def of(cls, description: Description) -> Columns:
        single = {name: Place.of(path) if (path := getattr(description, name)) is not None else None for name in SINGLE}
        several = {
            name: tuple(map(Place.of, getattr(description, name)))
            for name in ("prompt", "answers", "scores", "ranks", "vote")
        }
        roles = tuple(read_pairs(description.roles)) if description.roles else ()
        speech = Speech(description.role_key, description.content_key, roles)
        named = speech.role_key or speech.content_key or roles
        ties = tuple(map(normalize, description.tie))
        base = int(description.first[0]) if description.counts_answers else None
        return cls(**single, **several, speech=speech if named else None, base=base, ties=ties)  # type: ignore[arg-type]

    @property
    def places(self) -> list[Place]:
        """All places, those of the answers first."""
        single = [place for name in SINGLE if (place := getattr(self, name))]
        return [*self.answers, *single, *self.prompt, *self.scores, *self.ranks, *self.vote]

    @property
    def sides(self) -> Sides:
        """The names by which a vote may call the first and the second answer."""
        return sides_of(*self.answers) if len(self.answers) == 2 else ("first", "second")

    @property
    def better_and_worse(self) -> Sides | None:
        """The columns of the two answers, in whose names those of their scores are looked for."""
        if self.chosen is None or self.rejected is None or self.options:
            return None
        return self.chosen.name, self.rejected.name

    @property
    def answer_columns(self) -> tuple[str, ...]:
        """The columns that hold one answer each."""
        several = self.answers if len(self.answers) > 1 else ()
        return tuple(p.path for p in (self.chosen, self.rejected, self.answer, *several) if p and p.is_column)

    @property
    def reads(self) -> Reads:
        flags = ONE_OF_THREE if any(place.path in ONE_OF_THREE for place in self.vote) else ()
        return tuple(dict.fromkeys([*(place.read for place in self.places), *flags]))

    @property
    def options(self) -> tuple[str, ...]:
        """The options of prepare that matter."""
        if self.vote:
            return ("min_margin", "labels") if len(self.answers) == 2 else ("pairs", "min_margin", "labels")
        if self.label:
            return ("pairs", "min_margin", "labels")
        if self.answers or self.answer:
            return ("pairs", "min_margin")
        return ("min_margin",) if self.margin or self.scores or self.ranks else ()

    def value(self, place: Place, row: Row) -> Any:
        value = place.value(row)
        return value if self.speech is None else self.speech.read(value)

    def system_of(self, row: Row) -> object:
        return self.system.value(row) if self.system else None

    def read_prompt(self, row: Row) -> Prompt | None:
        """Read the prompt; None if the answers are whole conversations."""
        if not self.prompt and self.history is None:
            return None
        history = history_of(self.value(self.history, row)) if self.history else []
        values = [self.value(place, row) for place in self.prompt]
        value: object = values[0] if len(values) == 1 else _joined(values) if values else history
        return read_prompt(value, system=self.system_of(row), history=history if values else ())

    def read_points(self, row: Row) -> list[float | None]:
        """Return the score of each answer, or its rank turned round: more is better."""
        points = [score_of(value) for value in self.several(self.scores or self.ranks, row)]
        return points if self.scores else [None if rank is None else -rank for rank in points]

    def votes(self, row: Row) -> list[object]:
        """Return all votes of a row that are not missing."""
        return [vote for place in self.vote for vote in as_list(place.value(row)) if vote is not None]

    def several(self, places: tuple[Place, ...], row: Row) -> list[Any]:
        """Return the values of several places, or the items of the list at one. Raise Rejection if it is no list."""
        if len(places) > 1:
            return [self.value(place, row) for place in places]
        return expect(listed(self.value(places[0], row)), list)

    def pair(self, row: Row, prompt: Prompt | None, one: object, other: object) -> PreferenceExample:
        """Return a pair with `one` as the chosen answer."""
        if prompt is not None:
            return prompt.pair(one, other)
        if one is None or other is None:
            raise Rejection("missing_field")
        if _is_conversation(one) and not _is_conversation(other):
            turns = conversation_of(one)
            return read_prompt(turns[:-1], system=self.system_of(row)).pair(turns[-1:], other)
        return split_whole(one, other, system=self.system_of(row))


def _joined(values: Sequence[object]) -> str:
    """Join the texts of several columns. Raise Rejection if one is something else, or all are empty."""
    texts = [value for value in values if value not in (None, "")]
    if not all(isinstance(text, str) for text in texts):
        raise Rejection("wrong_type")
    if not texts:
        raise Rejection("missing_field")
    return "\n".join(map(str, texts))


def _is_conversation(value: object) -> bool:
    if isinstance(value, str):
        return is_rendered(value)
    return isinstance(value, list) and len(value) > 1 and role_in(value[0]) in ("system", "user")
