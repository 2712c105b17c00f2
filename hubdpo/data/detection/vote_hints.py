"""Refuse votes and labels of unknown meaning before any row is written, with the options to paste."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from hubdpo import console
from hubdpo.data.converters import Convert, ConvertOptions
from hubdpo.data.converters.formats import unpaired, voted
from hubdpo.data.converters.vote_columns import ANNOTATORS, ONE_OF_THREE, STRENGTHS, has_flags, vote_column
from hubdpo.data.converters.vote_words import (
    OPEN,
    Sides,
    differing_words,
    is_tie,
    is_whole_number,
    model_columns,
    names_a_side,
    normalize,
    suffix_of,
)
from hubdpo.data.pairs.example import Rejection, Row, is_number, number_of
from hubdpo.data.pairs.messages import words_of
from hubdpo.errors import ConfigError, DataError

MOST_VALUES = 8
LONGEST = 40
MOST_ROWS = 64
"""Rows in which a column that names a side is searched for."""
FIRST, SECOND = frozenset(("a", "first", "left", "1")), frozenset(("b", "second", "right", "2"))
GOOD = frozenset(("1", "true", "yes", "y", "up", "positive", "pass", "win", "+", "right", "ok"))
BAD = frozenset(("0", "-1", "false", "no", "n", "down", "negative", "fail", "lose", "-", "wrong"))
"""Values that may well call an answer good or bad, which a person must confirm."""
UNDERSTOOD = frozenset(("tie", "below_margin"))
"""Rejection reasons of votes whose meaning is known."""
_TOKEN = re.compile(r"[A-Za-z]+|\d+")


@dataclass
class Votes:
    """The values of a vote column, or of a label column if `sides` is None.

    If the column is one of three `flags`, a value is all three: `0/0/1`.
    """

    column: str
    sides: Sides | None
    flags: bool = False
    known: Counter[str] = field(default_factory=Counter)
    unknown: Counter[str] = field(default_factory=Counter)

    @property
    def values(self) -> list[str]:
        return sorted(self.known + self.unknown)

    @property
    def total(self) -> int:
        return self.known.total() + self.unknown.total()

    @property
    def is_of_another_schema(self) -> bool:
        """Whether some numbers are not in the published schema, so that all of them may mean something else."""
        return any(map(is_number, self.known)) and any(map(is_number, self.unknown))

    @property
    def is_strength(self) -> bool:
        """Whether a column whose published scale has two signs holds only one, so that it names no side."""
        if self.column not in STRENGTHS or not all(map(is_number, self.values)):
            return False
        numbers = [number_of(value) for value in self.values]
        return min(numbers, default=0) >= 0 and max(numbers, default=0) > 0

    @property
    def listed(self) -> str:
        values = self.values
        more = f" and {len(values) - MOST_VALUES:,} more" if len(values) > MOST_VALUES else ""
        return f"its values are {_quoted(values[:MOST_VALUES])}{more}"

    @property
    def hint(self) -> str:
        if self.flags:
            return f"one of {_quoted(ONE_OF_THREE)} must be 1, and the others 0"
        question = look_up(self.values, self.column, self.sides)
        return " ".join(filter(None, (question, labels_for(self.values, self.column, self.sides))))


def check_votes(
    converter: str, mapping: dict[str, str] | None, how: ConvertOptions, convert: Convert, rows: Iterable[Row]
) -> ConfigError | DataError | None:
    """Return the error to raise about the votes, or labels, of a file; None if they are understood.

    They are not understood if no row's is; if a number is outside the published schema by which the others would be
    read; or if a strength is never negative. In the last two cases the schema is another one, and pairs could be the
    wrong way round. A warning names single values that are not understood.
    """
    votes: dict[str, Votes] = {}
    some: list[Row] = []
    seen = 0
    for row in rows:
        seen += 1
        some += [row] if len(some) < MOST_ROWS else []
        try:
            convert(row)
            known = True
        except Rejection as rejection:
            known = rejection.reason in UNDERSTOOD
            if not known and rejection.reason != "unknown_label":
                continue
        columns = [name for name in _columns(converter, mapping, row) if row.get(name) is not None]
        for name in columns:
            flags = has_flags(row, name)
            column = votes.setdefault(columns[0], Votes(columns[0], _sides(mapping, row), flags))
            value = "/".join(normalize(row[flag]) for flag in ONE_OF_THREE) if flags else normalize(row[name])
            (column.known if known else column.unknown)[value] += 1
    if not votes:
        return None
    problem = _problem_with(list(votes.values()), how, some, one_answer=converter == "unpaired")
    if problem is None:
        _report_unknown(list(votes.values()), how.labels or {}, seen)
    return problem


def _problem_with(
    votes: list[Votes], how: ConvertOptions, rows: Sequence[Row], *, one_answer: bool
) -> ConfigError | DataError | None:
    most = max(votes, key=lambda column: column.total)
    if how.labels is not None:
        return _problem_with_labels(how.labels, votes, most, one_answer=one_answer)
    for column in votes:
        if column.is_strength:
            message = f"`{column.column}` is never negative, so it does not say which answer is better"
            return DataError(f"{message}: {column.listed}", hint=_strength_hint(column, rows))
    if not any(column.known for column in votes):
        meaning = "whether a label of `{}` means a good answer" if one_answer else "which answer a vote of `{}` prefers"
        return DataError(f"nothing says {meaning.format(most.column)}: {most.listed}", hint=most.hint)
    for column in votes:
        if column.is_of_another_schema or (one_answer and {"0", "-1"} <= column.known.keys()):
            message = f"the votes of `{column.column}` do not fit the published meaning of this column"
            return DataError(f"{message}: {column.listed}", hint=column.hint)
    return None


def _problem_with_labels(
    labels: dict[str, str], votes: list[Votes], most: Votes, *, one_answer: bool
) -> ConfigError | DataError | None:
    if most.flags:
        return ConfigError(
            f"`--labels` does not apply to the flags {_quoted(ONE_OF_THREE)}", hint="leave `--labels` out"
        )
    if one_answer is not ("good" in labels.values()):
        names = "a good and a bad answer" if one_answer else "the first and the second answer"
        return ConfigError(
            f"`--labels` must say which values of `{most.column}` mean {names}: a row has "
            f"{'one answer' if one_answer else 'two answers'}",
            hint=most.hint,
        )
    if not any(labels.keys() & column.known.keys() for column in votes):
        return DataError(f"`--labels` names no value of `{most.column}`: {most.listed}", hint=most.hint)
    return None


def _report_unknown(votes: list[Votes], labels: dict[str, str], seen: int) -> None:
    """Name the values of unknown meaning, and those of `--labels` that no row has."""
    for column in votes:
        if not column.unknown:
            continue
        few = ", ".join(f"`{value[:LONGEST]}` ({count:,})" for value, count in column.unknown.most_common(MOST_VALUES))
        more = f" and {len(column.unknown) - MOST_VALUES:,} more" if len(column.unknown) > MOST_VALUES else ""
        console.warn(
            f"`{column.column}` has values of unknown meaning: {few}{more}; their rows are dropped "
            f"(counted in the first {seen:,} rows)"
        )
        if labels:
            known = [f"{meaning}={value}" for value, meaning in labels.items()]
            added = [f"{OPEN}={value}" for value in list(column.unknown)[:MOST_VALUES] if "," not in value]
            console.hint(f"say what they mean: --labels {shlex.quote(','.join([*known, *added]))}")
        else:
            console.hint(column.hint)
    had = {value for column in votes for value in column.known}
    if absent := [value for value in labels if value not in had]:
        console.warn(f"`--labels` names {_quoted(absent[:MOST_VALUES])}, which none of the first {seen:,} rows has")


def _strength_hint(votes: Votes, rows: Sequence[Row]) -> str:
    """Return `--map` with the column that names a side in all rows; the vote stays open if there is none."""
    if (sides := votes.sides) is None or not rows:
        return votes.hint
    others = [name for name in rows[0] if name not in (*sides, votes.column)]
    vote = next((name for name in others if all(names_a_side(row, name, sides) for row in rows)), OPEN)
    prompt = next((name for name in voted.PROMPTS if name in rows[0]), OPEN)
    columns = f"prompt={prompt},first={sides[0]},second={sides[1]},vote={vote}"
    hint = f"name the column that says which is better: --map {shlex.quote(columns)}"
    return f"{hint}; or, if its values do, {labels_for([], sides=sides)}" if vote == OPEN else hint


def models_read(mapping: dict[str, str] | None, how: ConvertOptions, rows: Iterable[Row]) -> tuple[str, ...]:
    """Return the columns with the models of the two answers if votes name the model that won."""
    for row in rows if how.labels is None else ():
        column = mapping["vote"] if mapping is not None else vote_column(row)
        if (sides := _sides(mapping, row)) is None or column is None or row.get(column) is None:
            continue
        names = model_columns(tuple(row), sides)
        without = {name: value for name, value in row.items() if name not in names}
        if names and names_a_side(row, column, sides) and not names_a_side(without, column, sides):
            return names
    return ()


def _columns(converter: str, mapping: dict[str, str] | None, row: Row) -> Sequence[str]:
    if mapping is not None:
        return [mapping["vote"]]
    name = unpaired.label_column(row) if converter == "unpaired" else vote_column(row)
    return ANNOTATORS if name == ANNOTATORS[0] else [name] if name else []


def _sides(mapping: dict[str, str] | None, row: Row) -> Sides | None:
    return (mapping["first"], mapping["second"]) if mapping is not None else voted.answer_columns(row)


class Guess(NamedTuple):
    """Values that seem to mean the first side, or a good answer; the second side, or a bad answer; and a tie.

    The first two are empty if any value is unclear: it could turn the others round.
    """

    first: list[str]
    second: list[str]
    ties: list[str]


def labels_for(values: Sequence[str], column: str = "", sides: Sides | None = None) -> str:
    """Return `--labels` for the values of a vote, or of a label if `sides` is None.

    Unclear values stay open, so that the option cannot be pasted: the wrong way round, it would invert every pair.
    """
    names = ("first", "second") if sides else ("good", "bad")
    guess = _guess(values, column, sides)
    parts = [f"{name}={value}" for name, found in zip(names, guess, strict=False) for value in found or [OPEN]]
    return f"--labels {shlex.quote(','.join([*parts, *(f'tie={tie}' for tie in guess.ties)]))}"


def look_up(values: Sequence[str], column: str = "", sides: Sides | None = None) -> str:
    """Return what a person must look up before `labels_for` can be used, or an empty text."""
    guess = _guess(values, column, sides)
    unclear = _quoted([value for value in values if value not in guess.ties][:MOST_VALUES])
    if sides is not None:
        return "" if guess.first else f"look up which of {unclear} means that `{sides[0]}` is better:"
    if not guess.first:
        return f"look up which of {unclear} means a good answer:"
    if all(unpaired.says_good(value) is not None for value in (*guess.first, *guess.second)):
        return ""
    good, bad = (" or ".join(f"`{value}`" for value in some) for some in (guess.first, guess.second))
    return f"look it up: if {good} means a good answer, and {bad} a bad one,"


def _quoted(values: Sequence[str]) -> str:
    return ", ".join(f"`{value[:LONGEST]}`" for value in values)


def _guess(values: Sequence[str], column: str, sides: Sides | None) -> Guess:
    ties = [value for value in values if is_tie(value.strip().lower())]
    meanings = {
        value: _side(value, values, column, sides) if sides else _quality(value, values)
        for value in values
        if value not in ties
    }
    first, second = ([value for value, meaning in meanings.items() if meaning == wanted] for wanted in (1, -1))
    is_clear = bool(first and second) and len(first) + len(second) == len(meanings) <= MOST_VALUES
    if not is_clear or any("," in value for value in values):
        return Guess([], [], [value for value in ties if "," not in value])
    return Guess(first, second, ties)


def _quality(value: str, values: Sequence[str]) -> int:
    """Return 1 or -1 if a value may well mean a good or a bad answer, else 0. Beside -1, 0 may mean neither."""
    if value == "0" and "-1" in values:
        return 0
    if (good := unpaired.says_good(value)) is not None:
        return 1 if good else -1
    return (value.lower() in GOOD) - (value.lower() in BAD)


def _side(value: str, values: Sequence[str], column: str, sides: Sides) -> int:
    """Return 1 or -1 if a value names the first or second side in any words, else 0."""
    own = differing_words(*sides) or ("", "")
    if value in ("true", "false"):
        side = _side_in(words_of(column), own)
        return side if value == "true" else -side
    if is_whole_number(value):
        digits = suffix_of(sides[0]), suffix_of(sides[1])
        pair = digits if all(map(str.isdigit, digits)) and digits[0] != digits[1] else ("1", "2")
        numbers = {other for other in values if is_whole_number(other)}
        return (value == pair[0]) - (value == pair[1]) if numbers == {*pair} else 0
    return _side_in(list(_tokens(value)), own)


def _tokens(value: str) -> Iterator[str]:
    """Yield the words of a value in lower case, without the article `a`."""
    tokens = _TOKEN.findall(value)
    for index, token in enumerate(tokens):
        if token != "a" or index == len(tokens) - 1:
            yield token.lower()


def _side_in(words: Sequence[str], own: Sides) -> int:
    """Return 1 or -1 if words name the first or the second side and not both, else 0."""
    first = {*FIRST, own[0]} - {own[1]}
    second = {*SECOND, own[1]} - {own[0]}
    if len(words) == 1 and own == ("left", "right"):
        first, second = first | {"l"}, second | {"r"}
    return (not first.isdisjoint(words)) - (not second.isdisjoint(words))
