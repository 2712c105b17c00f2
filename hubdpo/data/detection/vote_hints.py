"""Votes and labels that no published schema explains: refused before any row is written, with the options to paste."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from hubdpo import console
from hubdpo.data.converters import Convert
from hubdpo.data.converters.formats import unpaired, voted
from hubdpo.data.converters.pairing import ConvertOptions
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
from hubdpo.data.pairs.example import Rejection
from hubdpo.data.pairs.messages import words_of
from hubdpo.errors import ConfigError, DataError

Row = dict[str, Any]
MOST_VALUES = 8
LONGEST = 40
MOST_ROWS = 64
"""Rows that are looked at for a column that says a side."""
FIRST, SECOND = frozenset(("a", "first", "left", "1")), frozenset(("b", "second", "right", "2"))
GOOD = frozenset(("1", "true", "yes", "y", "up", "positive", "pass", "win", "+", "right", "ok"))
BAD = frozenset(("0", "-1", "false", "no", "n", "down", "negative", "fail", "lose", "-", "wrong"))
"""What may well call an answer good or bad, which a person must confirm."""
UNDERSTOOD = frozenset(("tie", "below_margin"))
_TOKEN = re.compile(r"[A-Za-z]+|\d+")


def reads_votes(converter: str, mapping: dict[str, str] | None) -> bool:
    """Tell whether a converter reads what `--labels` explains."""
    return converter in ("voted", "unpaired") or "vote" in (mapping or ())


def check_votes(
    converter: str, mapping: dict[str, str] | None, how: ConvertOptions, convert: Convert, rows: Iterable[Row]
) -> ConfigError | DataError | None:
    """Return the error to raise about the votes, or labels, of a file; None where they are understood.

    They are not when no row's is, when any number of a column is no vote in the schema by which others would be read,
    and when a strength is never negative: then that schema is another's, and pairs would be the wrong way round.
    Values that are not understood beside others are told.
    """
    votes: dict[str, Votes] = {}
    some: list[Row] = []
    looked = 0
    for row in rows:
        looked += 1
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
            found = votes.setdefault(columns[0], Votes(columns[0], _sides(mapping, row), flags))
            value = "/".join(normalize(row[flag]) for flag in ONE_OF_THREE) if flags else normalize(row[name])
            (found.known if known else found.unknown)[value] += 1
    if not votes:
        return None
    one_answer = converter == "unpaired"
    most = max(votes.values(), key=lambda found: (found.known + found.unknown).total())
    if how.labels is not None:
        if most.flags:
            return ConfigError(
                f"`--labels` says nothing of the flags {_all(ONE_OF_THREE)}", hint="leave `--labels` out"
            )
        if one_answer is not ("good" in how.labels.values()):
            names = "good and bad, as rows have one" if one_answer else "first and second, as rows have two"
            return ConfigError(
                f"`--labels` must say which values of `{most.column}` mean {names} answer{'' if one_answer else 's'}",
                hint=most.hint,
            )
        if not any(how.labels.keys() & found.known.keys() for found in votes.values()):
            return DataError(f"`--labels` names no value of `{most.column}`: {most.listed}", hint=most.hint)
        _tell_unknown(votes.values(), how.labels, looked)
        return None
    for found in votes.values():
        if found.is_strength:
            told = f"`{found.column}` is never negative, so it does not say which answer is better"
            return DataError(f"{told}: {found.listed}", hint=_vote_hint(found, some))
    if not any(found.known for found in votes.values()):
        what = "whether a label of `{}` means a good answer" if one_answer else "which answer a vote of `{}` prefers"
        return DataError(f"nothing says {what.format(most.column)}: {most.listed}", hint=most.hint)
    for found in votes.values():
        if found.is_anothers or (one_answer and {"0", "-1"} <= found.known.keys()):
            told = f"the votes of `{found.column}` are not those that this column has where its meaning is published"
            return DataError(f"{told}: {found.listed}", hint=found.hint)
    _tell_unknown(votes.values(), {}, looked)
    return None


def _tell_unknown(votes: Iterable[Votes], labels: dict[str, str], looked: int) -> None:
    """Name the values that are not understood, and those of `--labels` that no row has."""
    votes = list(votes)
    for found in votes:
        if not found.unknown:
            continue
        few = ", ".join(f"`{value[:LONGEST]}` ({count:,})" for value, count in found.unknown.most_common(MOST_VALUES))
        more = f" and {len(found.unknown) - MOST_VALUES:,} more" if len(found.unknown) > MOST_VALUES else ""
        console.warn(
            f"of `{found.column}`, values that nothing explains: {few}{more}; such rows are dropped "
            f"(counted in the first {looked:,} rows)"
        )
        if labels:
            given = [f"{meaning}={value}" for value, meaning in labels.items()]
            added = [f"{OPEN}={value}" for value in list(found.unknown)[:MOST_VALUES] if "," not in value]
            console.hint(f"say what they mean: --labels {shlex.quote(','.join([*given, *added]))}")
        else:
            console.hint(found.hint)
    had = {value for found in votes for value in found.known}
    if absent := [value for value in labels if value not in had]:
        console.warn(f"`--labels` names {_all(absent[:MOST_VALUES])}, which none of the first {looked:,} rows has")


def _vote_hint(found: Votes, rows: Sequence[Row]) -> str:
    """Return `--map` with the column that says a side in all of these rows; it stays open where there is none."""
    if (sides := found.sides) is None or not rows:
        return found.hint
    others = [name for name in rows[0] if name not in (*sides, found.column)]
    vote = next((name for name in others if all(names_a_side(row, name, sides) for row in rows)), OPEN)
    prompt = next((name for name in voted.PROMPTS if name in rows[0]), OPEN)
    columns = f"prompt={prompt},first={sides[0]},second={sides[1]},vote={vote}"
    hint = f"name the column that says which is better: --map {shlex.quote(columns)}"
    return f"{hint}; or, if its values do, {labels_for([], sides=sides)}" if vote == OPEN else hint


@dataclass
class Votes:
    """The values of a column, those whose meaning is understood and the others; without `sides` they are labels.

    Of `flags` a value is all three, such as `0/0/0`.
    """

    column: str
    sides: Sides | None
    flags: bool = False
    known: Counter[str] = field(default_factory=Counter)
    unknown: Counter[str] = field(default_factory=Counter)

    @property
    def is_anothers(self) -> bool:
        """Whether a number is none of the published ones, so that all of them may mean something else."""
        return any(map(_is_number, self.known)) and any(map(_is_number, self.unknown))

    @property
    def is_strength(self) -> bool:
        """Whether these are numbers of a scale that has two signs where its meaning is published, and has one here."""
        values = [*self.known, *self.unknown]
        return (
            self.column in STRENGTHS
            and all(_is_number(value) and float(value) >= 0 for value in values)
            and any(float(value) > 0 for value in values)
        )

    @property
    def listed(self) -> str:
        values = sorted(self.known + self.unknown)
        more = f" and {len(values) - MOST_VALUES:,} more" if len(values) > MOST_VALUES else ""
        return f"its values are {_all(values[:MOST_VALUES])}{more}"

    @property
    def hint(self) -> str:
        if self.flags:
            return f"one of {_all(ONE_OF_THREE)} must be 1, and the others 0"
        values = sorted(self.known + self.unknown)
        said = guess(values, self.column, self.sides), labels_for(values, self.column, self.sides)
        return " ".join(filter(None, said))


def models_read(mapping: dict[str, str] | None, how: ConvertOptions, rows: Iterable[Row]) -> tuple[str, ...]:
    """Return the columns that name the models of the two answers, where votes say which model won."""
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


def labels_for(values: Sequence[str], column: str = "", sides: Sides | None = None) -> str:
    """Return `--labels` with the values of a vote, or without `sides` of a label, that say what they mean themselves.

    What nothing says stays open, and cannot be pasted: the wrong way round, it would invert every pair.
    """
    names = ("first", "second") if sides else ("good", "bad")
    one, other, ties = _told(values, column, sides)
    parts = [f"{name}={value}" for name, found in zip(names, (one, other), strict=True) for value in found or [OPEN]]
    return f"--labels {shlex.quote(','.join([*parts, *(f'tie={tie}' for tie in ties)]))}"


def guess(values: Sequence[str], column: str = "", sides: Sides | None = None) -> str:
    """Say what is to be looked up, where the values do not say it all themselves."""
    one, other, ties = _told(values, column, sides)
    rest = _all([value for value in values if value not in ties][:MOST_VALUES])
    if sides is not None:
        return "" if one else f"look up which of {rest} means that `{sides[0]}` is better:"
    if one and all(unpaired.says_good(value) is not None for value in (*one, *other)):
        return ""
    if one:
        return f"look it up: if {_any(one)} means a good answer, and {_any(other)} a bad one,"
    return f"look up which of {rest} means a good answer:"


def _any(values: Sequence[str]) -> str:
    return " or ".join(f"`{value}`" for value in values)


def _all(values: Sequence[str]) -> str:
    return ", ".join(f"`{value[:LONGEST]}`" for value in values)


def _told(values: Sequence[str], column: str, sides: Sides | None) -> tuple[list[str], list[str], list[str]]:
    """Return the values that mean the first side, or good, those of the other, and the ties; the first two are empty
    where one of the values says nothing, as what is left over may be the other way round.
    """
    ties = [value for value in values if is_tie(value.strip().lower())]
    said: dict[str, int] = {}
    for value in (value for value in values if value not in ties):
        said[value] = _side(value, values, column, sides) if sides else _quality(value, values)
    one, other = ([value for value, side in said.items() if side == wanted] for wanted in (1, -1))
    all_said = bool(one and other) and len(one) + len(other) == len(said)
    if not all_said or any("," in value for value in values) or len(said) > MOST_VALUES:
        return [], [], [value for value in ties if "," not in value]
    return one, other, ties


def _quality(value: str, values: Sequence[str]) -> int:
    """Return 1 or -1 where a value may well mean a good, or bad, answer; beside -1, 0 may be neither."""
    if value == "0" and "-1" in values:
        return 0
    if (good := unpaired.says_good(value)) is not None:
        return 1 if good else -1
    return (value.lower() in GOOD) - (value.lower() in BAD)


def _side(value: str, values: Sequence[str], column: str, sides: Sides) -> int:
    """Return 1 or -1 where a value names the first or second side, in whatever words."""
    own = differing_words(*sides) or ("", "")
    if value in ("true", "false"):
        side = _only(words_of(column), own)
        return side if value == "true" else -side
    if is_whole_number(value):
        digits = suffix_of(sides[0].lower()), suffix_of(sides[1].lower())
        pair = digits if all(map(str.isdigit, digits)) and digits[0] != digits[1] else ("1", "2")
        return (
            (value == pair[0]) - (value == pair[1]) if {*pair} == {one for one in values if is_whole_number(one)} else 0
        )
    return _only(list(_tokens(value)), own)


def _tokens(value: str) -> Iterator[str]:
    """Give the words of a value; `a` only where it is no article."""
    found = _TOKEN.findall(value)
    for place, token in enumerate(found):
        if token != "a" or place == len(found) - 1:
            yield token.lower()


def _only(words: Sequence[str], own: Sides) -> int:
    """Return the one side that some of these words name."""
    marks = {*FIRST, own[0]} - {own[1]}, {*SECOND, own[1]} - {own[0]}
    if len(words) == 1 and own == ("left", "right"):
        marks = marks[0] | {"l"}, marks[1] | {"r"}
    first, second = (not side.isdisjoint(words) for side in marks)
    return first - second


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
