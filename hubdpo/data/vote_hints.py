"""Votes and labels that no published schema explains: refused before any row is written, with the options to paste."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from hubdpo.data.converters import Convert, unpaired, voted
from hubdpo.data.converters.choice import Choice
from hubdpo.data.converters.verdicts import (
    OPEN,
    Sides,
    differing,
    is_tie,
    is_whole,
    last_part,
    model_columns,
    normal,
    says_a_side,
    words_of,
)
from hubdpo.data.converters.votes import ANNOTATORS, vote_column
from hubdpo.data.preference import Rejection
from hubdpo.errors import ConfigError, DataError

Row = dict[str, Any]
MOST_VALUES = 8
LONGEST = 40
STRAY = 0.25
"""Share of a column's numbers that a broken row may explain."""
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
    converter: str, mapping: dict[str, str] | None, how: Choice, convert: Convert, rows: Iterable[Row]
) -> ConfigError | DataError | None:
    """Return the error to raise about the votes, or labels, of a file; None where they are understood.

    They are not when no row's is, and when some numbers of a column are no votes in the schema by which others would
    be read: then that schema is another's, and half of the pairs would be lost and half be the wrong way round.
    """
    votes: dict[str, Votes] = {}
    for row in rows:
        try:
            convert(row)
            known = True
        except Rejection as rejection:
            known = rejection.reason in UNDERSTOOD
            if not known and rejection.reason != "unknown_label":
                continue
        columns = [name for name in _columns(converter, mapping, row) if row.get(name) is not None]
        for name in columns:
            found = votes.setdefault(columns[0], Votes(columns[0], _sides(mapping, row)))
            (found.known if known else found.unknown)[normal(row[name])] += 1
    if not votes:
        return None
    one_answer = converter == "unpaired"
    most = max(votes.values(), key=lambda found: (found.known + found.unknown).total())
    if how.labels is not None:
        if one_answer is not ("good" in how.labels.values()):
            names = "good and bad, as rows have one" if one_answer else "first and second, as rows have two"
            return ConfigError(
                f"`--labels` must say which values of `{most.column}` mean {names} answer{'' if one_answer else 's'}",
                hint=most.hint,
            )
        if not any(found.known for found in votes.values()):
            return DataError(f"`--labels` names no value of `{most.column}`: {most.listed}", hint=most.hint)
        return None
    if not any(found.known for found in votes.values()):
        what = "whether a label of `{}` means a good answer" if one_answer else "which answer a vote of `{}` prefers"
        return DataError(f"nothing says {what.format(most.column)}: {most.listed}", hint=most.hint)
    for found in votes.values():
        if found.is_anothers or (one_answer and {"0", "-1"} <= found.known.keys()):
            told = f"the votes of `{found.column}` are not those that this column has where its meaning is published"
            return DataError(f"{told}: {found.listed}", hint=found.hint)
    return None


@dataclass
class Votes:
    """The values of a column, those whose meaning is understood and the others; without `sides` they are labels."""

    column: str
    sides: Sides | None
    known: Counter[str] = field(default_factory=Counter)
    unknown: Counter[str] = field(default_factory=Counter)

    @property
    def is_anothers(self) -> bool:
        """Whether many numbers are none of the published ones, or those always the same: they mean something else."""
        known, unknown = (
            Counter({value: count for value, count in some.items() if _is_number(value)})
            for some in (self.known, self.unknown)
        )
        if not known or not unknown:
            return False
        return len(known) == 1 or unknown.total() > STRAY * (known + unknown).total()

    @property
    def listed(self) -> str:
        values = sorted(self.known + self.unknown)
        more = f" and {len(values) - MOST_VALUES:,} more" if len(values) > MOST_VALUES else ""
        return f"its values are {_all(values[:MOST_VALUES])}{more}"

    @property
    def hint(self) -> str:
        values = sorted(self.known + self.unknown)
        said = guess(values, self.column, self.sides), labels_for(values, self.column, self.sides)
        return " ".join(filter(None, said))


def models_read(mapping: dict[str, str] | None, how: Choice, rows: Iterable[Row]) -> tuple[str, ...]:
    """Return the columns that name the models of the two answers, where votes say which model won."""
    for row in rows if how.labels is None else ():
        column = mapping["vote"] if mapping is not None else vote_column(row)
        if (sides := _sides(mapping, row)) is None or column is None or row.get(column) is None:
            continue
        names = model_columns(tuple(row), sides)
        without = {name: value for name, value in row.items() if name not in names}
        if names and says_a_side(row, column, sides) and not says_a_side(without, column, sides):
            return names
    return ()


def _columns(converter: str, mapping: dict[str, str] | None, row: Row) -> Sequence[str]:
    if mapping is not None:
        return [mapping["vote"]]
    name = unpaired.label_column(row) if converter == "unpaired" else vote_column(row)
    return ANNOTATORS if name == ANNOTATORS[0] else [name] if name else []


def _sides(mapping: dict[str, str] | None, row: Row) -> Sides | None:
    return (mapping["first"], mapping["second"]) if mapping is not None else voted.sides_of(row)


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
    if not all_said or any("," in value for value in values) or (sides and len(said) > 2):
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
    own = differing(*sides) or ("", "")
    if value in ("true", "false"):
        side = _only(words_of(column), own)
        return side if value == "true" else -side
    if is_whole(value):
        digits = last_part(sides[0].lower()), last_part(sides[1].lower())
        pair = digits if all(map(str.isdigit, digits)) and digits[0] != digits[1] else ("1", "2")
        return (value == pair[0]) - (value == pair[1]) if {*pair} == {one for one in values if is_whole(one)} else 0
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
