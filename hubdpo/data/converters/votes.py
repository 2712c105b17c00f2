"""What a vote says of two answers, where a published schema fixes it; the vote's own words are read by `verdicts`.

The same value means different things in different sets (0 is "the first wins" here and "a tie" there), so a number is
read only in a column whose meaning is published; any other set must say it with `--labels first=...,second=...`.
"""

from __future__ import annotations

from collections.abc import Callable

import orjson

from hubdpo.data.converters.verdicts import (
    PAIRED,
    Row,
    Sides,
    Vote,
    agreed,
    differing,
    is_whole,
    last_part,
    named_vote,
    normal,
)
from hubdpo.data.pairs.example import Rejection, number_of

VOTES = (
    "labels", "winner", "winner_model_a", "better_response_id", "preferred_response", "preferred_answer",
    "preferred_output", "better_response", "better_answer", "better_output", "preferred", "choice", "preference",
    "comparison", "annotator1", "better", "verdict", "judgement", "judgment", "vote", "label", "overall_preference",
    "preference_strength",
)  # fmt: skip
"""Columns that hold a vote; the first that has a value is read. Strengths come after what says the side."""
STRENGTHS = ("overall_preference", "preference_strength")
HELPSTEER = (("response1", "response2"), ("response_1", "response_2"))
JUDGED = ("output_1", "output_2")
ANNOTATORS = ("annotator1", "annotator2", "annotator3")
ONE_OF_THREE = ("winner_model_a", "winner_model_b", "winner_tie")
FLAGS = {"1": 1, "true": 1, "0": 0, "false": 0}
SCORES, RANKS = ("score", "rating", "reward"), ("rank",)
STRONGEST = 3
"""HelpSteer's: much better."""


def has_vote(row: Row, sides: Sides) -> bool:
    return any(name in row for name in VOTES) or scores_of(row, sides) is not None


def vote_column(row: Row) -> str | None:
    return next((name for name in VOTES if row.get(name) is not None), None)


def vote_of(row: Row, sides: Sides, labels: dict[str, str] | None) -> Vote:
    """Read the vote between two columns. Raise Rejection when there is none, or its meaning is not known."""
    name = vote_column(row)
    if name is None:
        columns = scores_of(row, sides)
        if columns is None:
            raise Rejection("missing_field")
        margin = number_of(row[columns[0]]) - number_of(row[columns[1]])
        return Vote(-margin if any(rank in columns[0] for rank in RANKS) else margin)
    if name == ANNOTATORS[0]:
        return _annotators(row, sides, labels)
    if has_flags(row, name):
        return _one_of_three(row, sides)
    if labels is None and (read := PUBLISHED.get(name)) and (vote := read(row, sides)) is not None:
        return vote
    return named_vote(row[name], sides, labels, row)


def mapped_vote(row: Row, name: str, sides: Sides, labels: dict[str, str] | None) -> Vote:
    """Read the vote of a column that `--map` names. Raise Rejection."""
    return _one_of_three(row, sides) if has_flags(row, name) else named_vote(row[name], sides, labels, row)


def has_flags(row: Row, name: str) -> bool:
    """Tell whether a column is one of three flags, which are read together and need no labels."""
    return name in ONE_OF_THREE and all(flag in row for flag in ONE_OF_THREE)


def score_names(side: str, what: str) -> tuple[str, str]:
    """Return what the score of an answer is called: `score_a`, or `response_a_score`."""
    return f"{what}_{last_part(side.lower())}", f"{side}_{what}"


def scores_of(row: Row, sides: Sides) -> Sides | None:
    """Return the columns that score or rank two answers: `score_0` and `score_1` beside `answer_0`, `answer_1`."""
    for what in (*SCORES, *RANKS):
        for one, other in zip(*(score_names(side, what) for side in sides), strict=True):
            if one != other and row.get(one) is not None and row.get(other) is not None:
                return one, other
    return None


def _shp(row: Row, sides: Sides) -> Vote | None:
    """SHP alone has columns of this spelling: 1 the first, 0 the second."""
    if sides != ("human_ref_A", "human_ref_B") or (text := normal(row["labels"])) not in ("0", "1"):
        return None
    return Vote(1.0 if text == "1" else -1.0)


def _one_of_three(row: Row, sides: Sides) -> Vote:
    """A flag each for `a`, `b` and a tie, as numbers, words or text: 1, True, `1.0`."""
    values = [row.get(name) for name in ONE_OF_THREE]
    if None in values:
        raise Rejection("missing_field")
    flags = [FLAGS.get(normal(value)) for value in values]
    own = differing(*sides)
    swapped = own is not None and own[::-1] in PAIRED
    if (own not in PAIRED and not swapped) or sorted(map(str, flags)) != ["0", "0", "1"]:
        raise Rejection("unknown_label")
    a, b, _ = (flag or 0 for flag in flags)
    return Vote(float(b - a if swapped else a - b))


def _signed(name: str) -> Callable[[Row, Sides], Vote | None]:
    """HelpSteer: from -3 (the first is much better) to 3 (the second is)."""

    def read(row: Row, sides: Sides) -> Vote | None:
        if sides not in HELPSTEER:
            return None
        try:
            value = number_of(row[name])
        except Rejection:
            return None
        if abs(value) > STRONGEST:
            raise Rejection("unknown_label")
        return Vote(-value)

    return read


def _one_or_two(row: Row, sides: Sides) -> Vote | None:
    """Pairwise judges: 1 the first, 2 the second, and where votes were averaged anything between (1.5 is a tie)."""
    if sides != JUDGED:
        return _by_number("preference")(row, sides)
    try:
        value = number_of(row["preference"])
    except Rejection:
        return None
    if not 1 <= value <= 2:
        raise Rejection("unknown_label")
    return Vote(1.5 - value)


def _by_number(name: str) -> Callable[[Row, Sides], Vote | None]:
    """A column that names the better answer by the digit that its column ends in (PKU-SafeRLHF)."""

    def read(row: Row, sides: Sides) -> Vote | None:
        digits = [last_part(side) for side in sides]
        text = normal(row[name])
        if not all(map(str.isdigit, digits)) or digits[0] == digits[1] or text not in digits:
            return None
        return Vote(float(agreed(1 if text == digits[0] else -1, text, sides, row)))

    return read


def _annotators(row: Row, sides: Sides, labels: dict[str, str] | None) -> Vote:
    """Three people, most of whom decide: in words, or as PandaLM has it, 0 for a tie, 1 the first and 2 the second."""
    values = [row[name] for name in ANNOTATORS if row.get(name) is not None]
    if labels is None and any(is_whole(normal(value)) for value in values):
        labels = {"0": "tie", "1": "first", "2": "second"}
    votes = [named_vote(value, sides, labels, row).value for value in values]
    return Vote(float(sum((vote > 0) - (vote < 0) for vote in votes)))


def _auto_j(row: Row, sides: Sides) -> Vote | None:
    """auto-j alone has columns of this spelling: 0 the first, 1 the second, 2 a tie."""
    if sides != ("response 1", "response 2") or (text := normal(row["label"])) not in ("0", "1", "2"):
        return None
    return Vote((1.0, -1.0, 0.0)[int(text)])


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
    "labels": _shp, "winner": _by_number("winner"),
    "overall_preference": _signed("overall_preference"), "preference_strength": _signed("preference_strength"),
    "preference": _one_or_two, "better_response_id": _by_number("better_response_id"),
    "label": _auto_j, "comparison": _selected,
}  # fmt: skip
"""Votes whose meaning a published schema fixes; None where it says nothing of a value."""
