"""What a vote says of two answers, where a published schema or the vote's own words fix it.

The same value means different things in different sets (0 is "the first wins" here and "a tie" there), so a number is
read only in a column whose meaning is published; any other set must say it with `--labels first=...,second=...`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson

from hubdpo.data.preference import Rejection, number_of
from hubdpo.errors import ConfigError

Row = dict[str, Any]
Sides = tuple[str, str]
VOTES = (
    "labels", "winner", "overall_preference", "preference_strength", "preference", "winner_model_a",
    "better_response_id", "choice", "comparison", "annotator1", "better", "verdict", "judgement", "judgment", "vote",
    "label",
)  # fmt: skip
"""Columns that hold a vote; the first that has a value is read."""
ANNOTATORS = ("annotator1", "annotator2", "annotator3")
ONE_OF_THREE = ("winner_model_a", "winner_model_b", "winner_tie")
TIES = frozenset((
    "tie", "ties", "tied", "bothbad", "equal", "draw", "neither", "none", "same",
))  # fmt: skip
FIRST, SECOND = ("left", "first", "model_a"), ("right", "second", "model_b")
LABELS_HINT = "--labels first=1,second=2,tie=0"
_VERDICT = re.compile(r"\[*([ab])\s*(>{1,2}|<{1,2}|=|~=?|==)\s*([ab])\]*")
_LAST_PART = re.compile(r"(?:^|[\W_])([a-z])$|(\d)$")


@dataclass(frozen=True)
class Vote:
    """Above 0 the first answer won, below 0 the second, 0 is a tie; the size is the margin where the set has one."""

    value: float


def parse_labels(text: str) -> dict[str, str]:
    """Read `first=1,second=2,tie=0` into {value: meaning}; ties may be several.

    Raise ConfigError unless first and second have one value each.
    """
    pairs = [part.partition("=") for part in text.split(",")]
    meanings = {value.strip(): name.strip() for name, _, value in pairs}
    named = sorted(meanings.values())
    if named[:2] != ["first", "second"] or set(named[2:]) - {"tie"} or len(meanings) != len(pairs):
        raise ConfigError(f"`--labels` must give first and second one value each: {text}", hint=LABELS_HINT)
    return meanings


def has_vote(row: Row, sides: Sides) -> bool:
    return any(name in row for name in VOTES) or scores_of(row, sides) is not None


def vote_of(row: Row, sides: Sides, labels: dict[str, str] | None) -> Vote:
    """Read the vote between two columns. Raise Rejection when there is none, or its meaning is not known."""
    name = next((name for name in VOTES if row.get(name) is not None), None)
    if name is None:
        columns = scores_of(row, sides)
        if columns is None:
            raise Rejection("missing_field")
        return Vote(number_of(row[columns[0]]) - number_of(row[columns[1]]))
    if labels is None and (read := PUBLISHED.get(name)) and (vote := read(row, sides)) is not None:
        return vote
    return named_vote(row[name], sides, labels)


def named_vote(value: Any, sides: Sides, labels: dict[str, str] | None) -> Vote:
    """Read a vote that names a side in words or by the column's own letter, or as `labels` says."""
    if isinstance(value, dict) and "selected" in value:  # as Label Studio exports it
        value = value["selected"]
    if labels is not None:
        meaning = labels.get(text_of_value(value))
        if meaning is None:
            raise Rejection("unknown_label")
        return Vote({"first": 1.0, "second": -1.0, "tie": 0.0}[meaning])
    text = value.strip().lower() if isinstance(value, str) else None
    if text is not None and is_tie(text):
        return Vote(0.0)
    first, second = (side.lower() for side in sides)
    letters = last_part(first), last_part(second)
    if text is None or first == second:
        raise Rejection("unknown_label")
    if text in (*FIRST, first) or (text == letters[0] and text.isalpha()):
        return Vote(1.0)
    if text in (*SECOND, second) or (text == letters[1] and text.isalpha()):
        return Vote(-1.0)
    if letters == ("a", "b") and (verdict := _VERDICT.fullmatch(text)) and verdict[1] != verdict[3]:
        size = {">": 1, "<": -1}.get(verdict[2][0], 0) * len(verdict[2])
        return Vote(float(size if verdict[1] == "a" else -size))
    raise Rejection("unknown_label")


def is_tie(text: str) -> bool:
    """Tell `tie`, `both_bad`, `Tie (both good)` and the like."""
    return text in TIES or text.startswith(("tie ", "tie(", "both ", "both_", "both-"))


def says_a_side(value: Any, sides: Sides) -> bool:
    """Tell whether a vote needs no `--labels`."""
    try:
        named_vote(value, sides, None)
    except Rejection:
        return False
    return True


def text_of_value(value: Any) -> str:
    """Return a vote's value as `--labels` spells it."""
    return f"{value:g}" if isinstance(value, (int, float)) and not isinstance(value, bool) else str(value)


def last_part(name: str) -> str:
    """Return the letter or digit that a column's name ends in, or nothing."""
    match = _LAST_PART.search(name)
    return (match[1] or match[2]) if match else ""


def scores_of(row: Row, sides: Sides) -> Sides | None:
    """Return the columns that score the two answers: `score_0` and `score_1` beside `answer_0` and `answer_1`."""
    parts = [last_part(side.lower()) for side in sides]
    for pattern in ("score_{}", "rating_{}"):
        one, other = (pattern.format(part) for part in parts)
        if one != other and row.get(one) is not None and row.get(other) is not None:
            return one, other
    return None


def _shp(row: Row, sides: Sides) -> Vote | None:
    if row["labels"] not in (0, 1) or isinstance(row["labels"], bool):
        raise Rejection("unknown_label")
    return Vote(1.0 if row["labels"] == 1 else -1.0)


def _one_of_three(row: Row, sides: Sides) -> Vote | None:
    flags = [number_of(row.get(name)) for name in ONE_OF_THREE]
    if sorted(flags) != [0.0, 0.0, 1.0]:
        raise Rejection("unknown_label")
    return Vote(flags[0] - flags[1])


def _signed(name: str) -> Callable[[Row, Sides], Vote | None]:
    """HelpSteer: from -3 (the first is much better) to 3 (the second is)."""
    return lambda row, sides: Vote(-number_of(row[name]))


def _one_or_two(row: Row, sides: Sides) -> Vote | None:
    """Pairwise judges: 1 the first, 2 the second, and where votes were averaged anything between (1.5 is a tie)."""
    value = row["preference"]
    if isinstance(value, str) and not value.strip().replace(".", "", 1).isdigit():
        return None
    value = number_of(value)
    if not 1 <= value <= 2:
        raise Rejection("unknown_label")
    return Vote(1.5 - value)


def _by_number(name: str) -> Callable[[Row, Sides], Vote | None]:
    """A column that names the better answer by the digit that its column ends in (PKU-SafeRLHF)."""

    def read(row: Row, sides: Sides) -> Vote | None:
        digits = [last_part(side) for side in sides]
        text = text_of_value(row[name])
        if not all(map(str.isdigit, digits)) or digits[0] == digits[1] or text not in digits:
            return None
        return Vote(1.0 if text == digits[0] else -1.0)

    return read


def _panda(row: Row, sides: Sides) -> Vote | None:
    """PandaLM: three people, each 0 for a tie, 1 for the first, 2 for the second; most of them decide."""
    values = [number_of(row[name]) for name in ANNOTATORS if row.get(name) is not None]
    if any(value not in (0.0, 1.0, 2.0) for value in values):
        raise Rejection("unknown_label")
    return Vote(float(values.count(1.0) - values.count(2.0)))


def _auto_j(row: Row, sides: Sides) -> Vote | None:
    """auto-j alone has columns of this spelling: 0 the first, 1 the second, 2 a tie."""
    if sides != ("response 1", "response 2") or row["label"] not in (0, 1, 2) or isinstance(row["label"], bool):
        return None
    return Vote((1.0, -1.0, 0.0)[int(row["label"])])


def _selected(row: Row, sides: Sides) -> Vote | None:
    """A vote that a CSV export of Label Studio has as JSON."""
    value = row["comparison"]
    if not isinstance(value, str) or not value.startswith("{"):
        return None
    try:
        return named_vote(orjson.loads(value), sides, None)
    except orjson.JSONDecodeError:
        raise Rejection("unknown_label") from None


PUBLISHED: dict[str, Callable[[Row, Sides], Vote | None]] = {
    "labels": _shp, "winner": _by_number("winner"), "winner_model_a": _one_of_three,
    "overall_preference": _signed("overall_preference"), "preference_strength": _signed("preference_strength"),
    "preference": _one_or_two, "better_response_id": _by_number("better_response_id"), "annotator1": _panda,
    "label": _auto_j, "comparison": _selected,
}  # fmt: skip
"""Votes whose meaning a published schema fixes; None where it says nothing of a value."""
