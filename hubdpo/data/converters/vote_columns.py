"""Read votes from the columns of published datasets, whose schemas fix what their values mean.

The same value means different things in different datasets: 0 is "the first answer won" in one and "a tie" in another.
A number is therefore read only in a column whose meaning is published; other datasets need `--labels`.
"""

from __future__ import annotations

from collections.abc import Callable

from hubdpo.data.converters.contract import ConvertOptions
from hubdpo.data.converters.places import opened
from hubdpo.data.converters.vote_words import (
    Sides,
    Vote,
    check_unambiguous,
    differing_words,
    is_whole_number,
    normalize,
    order_of,
    parse_vote,
    side_of_digit,
    suffix_of,
)
from hubdpo.data.pairs.example import PreferenceExample, Rejection, Row, is_number, number_of

VOTES = (
    "labels", "winner", "winner_model_a", "better_response_id", "preferred_response", "preferred_answer",
    "preferred_output", "better_response", "better_answer", "better_output", "preferred", "choice", "preference",
    "comparison", "annotator1", "better", "verdict", "judgement", "judgment", "vote", "label", "overall_preference",
    "preference_strength",
)  # fmt: skip
"""Columns that hold a vote; the first with a value is read. Strengths come last, behind columns that name the side."""
STRENGTHS = ("overall_preference", "preference_strength")
HELPSTEER = (("response1", "response2"), ("response_1", "response_2"))
JUDGED = ("output_1", "output_2")
ANNOTATORS = ("annotator1", "annotator2", "annotator3")
ONE_OF_THREE = ("winner_model_a", "winner_model_b", "winner_tie")
"""A flag each for the first answer, the second and a tie."""
FLAGS = {"1": 1, "true": 1, "0": 0, "false": 0}
CODES: dict[tuple[str, str, str], dict[str, Vote]] = {
    ("labels", "human_ref_A", "human_ref_B"): {"1": 1.0, "0": -1.0},
    ("label", "response 1", "response 2"): {"0": 1.0, "1": -1.0, "2": 0.0},
}
"""Numbers of SHP and auto-j, by the columns of the vote and the two answers, which no other dataset has."""
SCORES, RANKS = ("score", "rating", "reward"), ("rank",)


def has_vote(row: Row, sides: Sides) -> bool:
    named = any(name in row and not is_annotated(row, name) for name in VOTES)
    return named or scores_of(row, sides) is not None


def is_annotated(row: Row, name: str) -> bool:
    """Return whether a column holds what each annotator answered in Argilla 1, which is read by `argilla`."""
    value = row.get(name)
    answered = isinstance(value, list) and bool(value) and isinstance(value[0], dict) and "user_id" in value[0]
    return answered or f"{name}-suggestion" in row


def vote_column(row: Row) -> str | None:
    return next((name for name in VOTES if row.get(name) is not None), None)


def vote_of(row: Row, sides: Sides, labels: dict[str, str] | None) -> Vote:
    """Return the vote between two columns. Raise Rejection if there is none, or its meaning is unknown."""
    name = vote_column(row)
    if name is None:
        columns = scores_of(row, sides)
        if columns is None:
            raise Rejection("missing_field")
        margin = number_of(row[columns[0]]) - number_of(row[columns[1]])
        return -margin if any(rank in columns[0] for rank in RANKS) else margin
    if name == ANNOTATORS[0]:
        return _majority(row, sides, labels)
    if labels is None and (read := PUBLISHED.get(name)) and (vote := read(row, name, sides)) is not None:
        return vote
    return mapped_vote(row, name, sides, labels)


def mapped_vote(row: Row, name: str, sides: Sides, labels: dict[str, str] | None) -> Vote:
    """Return the vote of a column whatever its name. Raise Rejection if its meaning is unknown."""
    return _one_of_three(row, sides) if has_flags(row, name) else parse_vote(row[name], sides, labels, row)


def check_margin(vote: Vote, how: ConvertOptions) -> Vote:
    """Return the vote. Raise Rejection if it is a tie, or its margin below the least one."""
    if reason := how.too_close(abs(vote)):
        raise Rejection(reason)
    return vote


def winner_first(vote: Vote, pair: PreferenceExample) -> PreferenceExample:
    """Return a pair of first and second answer as chosen and rejected."""
    return pair if vote > 0 else PreferenceExample(pair.prompt, pair.rejected, pair.chosen, pair.changes)


def has_flags(row: Row, name: str) -> bool:
    """Return whether a column is one of three flags, which are read together and need no labels."""
    return name in ONE_OF_THREE and all(flag in row for flag in ONE_OF_THREE)


def score_names(side: str, noun: str) -> tuple[str, str]:
    """Return the possible names of an answer's score column: `score_a` and `response_a_score`."""
    return f"{noun}_{suffix_of(side)}", f"{side}_{noun}"


def scores_of(row: Row, sides: Sides) -> Sides | None:
    """Return the columns that score or rank two answers, such as `score_0` and `score_1`."""
    for noun in (*SCORES, *RANKS):
        for one, other in zip(*(score_names(side, noun) for side in sides), strict=True):
            if one != other and row.get(one) is not None and row.get(other) is not None:
                return one, other
    return None


def _one_of_three(row: Row, sides: Sides) -> Vote:
    """Three flags, as numbers, booleans or text: 1, True, `1.0`."""
    values = [row.get(name) for name in ONE_OF_THREE]
    if None in values:
        raise Rejection("missing_field")
    flags = [FLAGS.get(normalize(value)) for value in values]
    order = order_of(differing_words(*sides))
    if not order or sorted(map(str, flags)) != ["0", "0", "1"]:
        raise Rejection("unknown_label")
    a, b, _ = (flag or 0 for flag in flags)
    return float(order * (a - b))


def _majority(row: Row, sides: Sides, labels: dict[str, str] | None) -> Vote:
    """Three annotators, in words or as in PandaLM: 0 a tie, 1 the first answer, 2 the second."""
    values = [row[name] for name in ANNOTATORS if row.get(name) is not None]
    if labels is None and any(is_whole_number(normalize(value)) for value in values):
        labels = {"0": "tie", "1": "first", "2": "second"}
    votes = [parse_vote(value, sides, labels, row) for value in values]
    return float(sum((vote > 0) - (vote < 0) for vote in votes))


def _coded(row: Row, name: str, sides: Sides) -> Vote | None:
    return CODES.get((name, *sides), {}).get(normalize(row[name]))


def _signed(row: Row, name: str, sides: Sides) -> Vote | None:
    """HelpSteer: from -3, the first answer is much better, to 3, the second is."""
    return -_number(row, name, -3, 3) if sides in HELPSTEER and is_number(row[name]) else None


def _one_to_two(row: Row, name: str, sides: Sides) -> Vote | None:
    """Pairwise judges: 1 the first answer, 2 the second; averaged votes lie between, 1.5 is a tie."""
    if sides != JUDGED:
        return _by_digit(row, name, sides)
    return 1.5 - _number(row, name, 1, 2) if is_number(row[name]) else None


def _number(row: Row, name: str, least: int, most: int) -> float:
    value = number_of(row[name])
    if not least <= value <= most:
        raise Rejection("unknown_label")
    return value


def _by_digit(row: Row, name: str, sides: Sides) -> Vote | None:
    """PKU-SafeRLHF: the digit in which the column of the better answer ends."""
    text = normalize(row[name])
    side = side_of_digit(text, sides)
    return float(check_unambiguous(side, text, sides, row)) if side else None


def _selected(row: Row, name: str, sides: Sides) -> Vote | None:
    """A vote in a short export of Label Studio: a list of one object, which CSV holds as JSON."""
    value = opened(row[name])
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    return parse_vote(value, sides, None) if isinstance(value, dict) else None


PUBLISHED: dict[str, Callable[[Row, str, Sides], Vote | None]] = {
    "labels": _coded, "winner": _by_digit, "overall_preference": _signed, "preference_strength": _signed,
    "preference": _one_to_two, "better_response_id": _by_digit, "label": _coded, "comparison": _selected,
}  # fmt: skip
"""Columns whose votes a published schema defines; a reader returns None for values that the schema does not have."""
