"""`columns`: rows whose columns a person described, by options, by an item of `sources`, or by `--map`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from hubdpo.config.description import Description
from hubdpo.config.name_values import read_pairs
from hubdpo.data.converters.contract import Converter, ConvertOptions
from hubdpo.data.converters.formats.conversations import conversation_of, split_whole
from hubdpo.data.converters.formats.preference import pair_columns
from hubdpo.data.converters.formats.scored import score_of, scored_pairs
from hubdpo.data.converters.formats.unpaired import is_good
from hubdpo.data.converters.places import Place, listed
from hubdpo.data.converters.prompts import Prompt, Reads, history_of, read_prompt, tools_of
from hubdpo.data.converters.rendered_chats import is_rendered
from hubdpo.data.converters.vote_columns import ONE_OF_THREE, check_margin, has_flags, mapped_vote, winner_first
from hubdpo.data.converters.vote_words import Sides, Vote, is_whole_number, normalize, parse_vote
from hubdpo.data.pairs.example import Converted, PreferenceExample, Rejection, Row, ScoredAnswer, number_of
from hubdpo.data.pairs.message_column import PairColumns
from hubdpo.data.pairs.messages import CONTENT_KEYS, ROLE_KEYS, first_of, role_in

NAME = "columns"
Pairs = Iterator[PreferenceExample | Rejection]


@dataclass(frozen=True)
class Speech:
    """Keys and speakers of messages that hubdpo does not know by itself."""

    role_key: str | None
    content_key: str | None
    roles: tuple[tuple[str, str], ...]

    def read(self, value: Any) -> Any:
        """Return messages with the keys and roles that hubdpo knows; other values as they are."""
        if isinstance(value, list):
            return [self.read(item) for item in value]
        role_keys, content_keys = _keys(self.role_key, ROLE_KEYS), _keys(self.content_key, CONTENT_KEYS)
        if not isinstance(value, dict) or (name := first_of(value, role_keys)) is None:
            return value
        others = {key: held for key, held in value.items() if key not in (*role_keys, *content_keys)}
        return {"role": dict(self.roles).get(str(name), name), "content": first_of(value, content_keys), **others}


def _keys(own: str | None, known: tuple[str, ...]) -> tuple[str, ...]:
    return known if own is None else (own,)


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
    """Votes that name no best answer."""

    @classmethod
    def of(cls, description: Description) -> Columns:
        single = {
            name: Place.of(path) if (path := getattr(description, name)) is not None else None
            for name in ("system", "tools", "history", "chosen", "rejected", "answer", "label", "margin")
        }
        several = {
            name: tuple(map(Place.of, getattr(description, name)))
            for name in ("prompt", "answers", "scores", "ranks", "vote")
        }
        speech = Speech(
            description.role_key,
            description.content_key,
            tuple(read_pairs(description.roles)) if description.roles else (),
        )
        named = speech.role_key or speech.content_key or description.roles
        ties = tuple(map(normalize, description.tie))
        base = int(description.first[0]) if description.counts_answers else None
        return cls(**single, **several, speech=speech if named else None, base=base, ties=ties)  # type: ignore[arg-type]

    @property
    def places(self) -> list[Place]:
        """All places, those of the answers first."""
        single = (
            self.chosen,
            self.rejected,
            self.answer,
            self.system,
            self.tools,
            self.history,
            self.label,
            self.margin,
        )
        found = [*self.answers, *(place for place in single if place), *self.prompt, *self.scores, *self.ranks]
        return [*found, *self.vote]

    @property
    def sides(self) -> Sides:
        """The names by which a vote may call the first and the second answer."""
        if len(self.answers) != 2:
            return "first", "second"
        return (self.answers[0].name, self.answers[1].name)

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

    def read_answers(self, row: Row) -> list[object]:
        return _several(self.answers, row, self.value)

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


def _several(places: tuple[Place, ...], row: Row, value: Any) -> list[Any]:
    """Return the values of several places, or the items of the list at one. Raise Rejection if it is no list."""
    if len(places) > 1:
        return [value(place, row) for place in places]
    items = listed(value(places[0], row))
    if not isinstance(items, list):
        raise Rejection("missing_field" if items is None else "wrong_type")
    return items


def _is_conversation(value: object) -> bool:
    """Return whether an answer is a whole conversation, with its prompt."""
    if isinstance(value, str):
        return is_rendered(value)
    return isinstance(value, list) and len(value) > 1 and role_in(value[0]) in ("system", "user")


def convert_pair(row: Row, columns: Columns) -> PreferenceExample:
    """Convert a row with a better and a worse answer."""
    chosen, rejected = (columns.value(place, row) for place in (columns.chosen, columns.rejected) if place)
    return columns.pair(row, columns.read_prompt(row), chosen, rejected)


def convert_graded(row: Row, columns: Columns, how: ConvertOptions) -> PreferenceExample:
    """Convert a row with a better and a worse answer, and a score or rank of each, or a margin."""
    if columns.margin:
        margin = number_of(columns.margin.value(row))
    else:
        better, worse = (score_of(place.value(row)) for place in columns.scores or columns.ranks)
        if better is None or worse is None:
            raise Rejection("unscored")
        margin = better - worse if columns.scores else worse - better
    if reason := "inverted" if margin < 0 else how.too_close(margin):
        raise Rejection(reason)
    return convert_pair(row, columns)


def convert_scored(row: Row, columns: Columns, how: ConvertOptions) -> Pairs:
    """Pair answers by their scores or ranks."""
    answers = columns.read_answers(row)
    scores = _several(columns.scores or columns.ranks, row, Columns.value.__get__(columns))
    if len(answers) < 2:
        raise Rejection("single_answer" if answers else "missing_field")
    if len(scores) != len(answers):
        raise Rejection("lists_differ")
    points = [score_of(score) for score in scores]
    points = points if columns.scores else [None if rank is None else -rank for rank in points]
    prompt = columns.read_prompt(row)
    if prompt is None:
        raise Rejection("missing_field")
    return scored_pairs(prompt, answers, points, how)


def convert_voted(row: Row, columns: Columns, how: ConvertOptions) -> Converted:
    """Pair two answers by a vote, or the best of several with each other one."""
    answers, votes = columns.read_answers(row), _votes(row, columns)
    if not votes:
        raise Rejection("missing_field")
    prompt = columns.read_prompt(row)
    if columns.base is None:
        if len(answers) != 2:
            raise Rejection("lists_differ")
        vote = check_margin(_vote(row, columns, votes, how), how)
        return winner_first(vote, columns.pair(row, prompt, *answers))
    if len(answers) < 2:
        raise Rejection("single_answer")
    best = _best(votes, columns, len(answers))
    pairs = (columns.pair(row, prompt, answers[best], other) for at, other in enumerate(answers) if at != best)
    return next(pairs) if len(answers) == 2 else iter(list(pairs))


def _votes(row: Row, columns: Columns) -> list[object]:
    """Return all votes of a row that are not missing."""
    found: list[object] = []
    for place in columns.vote:
        value = place.value(row)
        found += value if isinstance(value, list) else [value]
    return [vote for vote in found if vote is not None]


def _vote(row: Row, columns: Columns, votes: list[object], how: ConvertOptions) -> Vote:
    name = columns.vote[0].path
    if has_flags(row, name):
        return mapped_vote(row, name, columns.sides, how.labels)
    said = [parse_vote(vote, columns.sides, how.labels, row) for vote in votes]
    return said[0] if len(said) == 1 else float(sum((vote > 0) - (vote < 0) for vote in said))


def _best(votes: list[object], columns: Columns, count: int) -> int:
    """Return the index of the answer that most votes name by its number."""
    texts = [text for text in map(normalize, votes) if text not in columns.ties]
    numbers = [int(text) - (columns.base or 0) for text in texts if is_whole_number(text)]
    if len(numbers) < len(texts) or not all(0 <= number < count for number in numbers):
        raise Rejection("unknown_label")
    ranked = Counter(numbers).most_common(2)
    if not ranked or ranked[0][1] == ranked[-1][1] < len(texts) or 2 * ranked[0][1] < len(votes):
        raise Rejection("tie")
    return ranked[0][0]


def convert_single(row: Row, columns: Columns, how: ConvertOptions) -> ScoredAnswer:
    """Convert a row with one answer, which is paired with others to the same prompt."""
    if columns.label:
        if (label := columns.label.value(row)) is None:
            raise Rejection("missing_field")
        score = float(is_good(label, how.labels, {}))
    else:
        place = (*columns.scores, *columns.ranks)[0]
        score = number_of(place.value(row)) * (1 if columns.scores else -1)
    assert columns.answer is not None
    answer, prompt = columns.value(columns.answer, row), columns.read_prompt(row)
    if prompt is None:
        turns = conversation_of(answer)
        if not turns or turns[-1]["role"] != "assistant":
            raise Rejection("does_not_end_with_assistant")
        prompt, answer = read_prompt(turns[:-1], system=columns.system_of(row)), turns[-1:]
    return prompt.scored(answer, score)


def convert_many(rows: list[Row], columns: Columns) -> PairColumns | None:
    """Convert rows with one plain text in each place."""
    if columns.chosen is None or columns.rejected is None:
        return None
    places = (columns.prompt[0], columns.chosen, columns.rejected)
    values = ([place.value(row) for row in rows] for place in places)
    systems = [columns.system_of(row) for row in rows] if columns.system else None
    return pair_columns(*values, systems=systems)


def detect(row: Row, columns: Columns) -> bool:
    return all(place.value(row) is not None for place in columns.places)


def converter(columns: Columns) -> Converter:
    """Return the converter of described columns."""
    convert: Callable[..., Converted]
    if columns.chosen:
        convert = convert_graded if columns.options else convert_pair
    else:
        convert = convert_single if columns.answer else convert_voted if columns.vote else convert_scored
    plain = columns.chosen and not columns.options and len(columns.prompt) == 1 and not columns.history
    return Converter(
        NAME,
        "the columns that are described",
        partial(detect, columns=columns),
        partial(convert, columns=columns),
        reads=columns.reads,
        answers=columns.answer_columns,
        convert_many=partial(convert_many, columns=columns) if plain and columns.speech is None else None,
        options=columns.options,
        tools=partial(tools_of, place=columns.tools) if columns.tools else None,
    )
