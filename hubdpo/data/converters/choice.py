"""Which pairs to make of several answers to one prompt, when each has a score."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from hubdpo.artefacts.formats.messages import Message
from hubdpo.data.converters.cells import MISSING
from hubdpo.data.converters.question import Question
from hubdpo.data.pairs.changes import UNSCORED
from hubdpo.data.pairs.example import PreferenceExample, Rejection, number_of

Pairing = Literal["best-worst", "all", "adjacent"]


@dataclass(frozen=True)
class Choice:
    """`pairs` is how answers are paired, `min_margin` the least difference of scores that is a preference.

    `score_field` names the score of an answer, and `labels` the meaning of a vote's values, where a format has several.
    """

    pairs: Pairing = "best-worst"
    min_margin: float = 0.0
    score_field: str | None = None
    labels: dict[str, str] | None = None


def candidates(scores: Sequence[float], pairs: Pairing) -> Iterator[tuple[int, int]]:
    """Give the positions (better, worse) of the pairs to compare; equal scores are given too, to be counted as ties.

    `best-worst` gives one pair, `adjacent` each neighbour in the order of scores, `all` every two answers. Of equal
    scores the earlier answer comes first, so the pairs do not depend on anything but the row.
    """
    order = sorted(range(len(scores)), key=lambda i: (-scores[i], i))
    if len(order) < 2:
        return
    if pairs == "best-worst":
        yield order[0], order[-1]
    elif pairs == "adjacent":
        yield from zip(order, order[1:], strict=False)
    else:
        for place, better in enumerate(order):
            for worse in order[place + 1 :]:
                yield better, worse


def too_close(margin: float, how: Choice) -> str | None:
    """Return why a difference of scores is no preference, or None when it is one."""
    if margin == 0:
        return "tie"
    return "below_margin" if margin < how.min_margin else None


def compared(
    question: Question, answers: Sequence[Any], scores: Sequence[float | None], how: Choice
) -> Iterator[PreferenceExample | Rejection]:
    """Read all answers, and give the pairs that their scores make, with a Rejection for each that is no preference.

    An answer without a score is left out. Raise Rejection unless two have one.
    """
    known = [(answer, score) for answer, score in zip(answers, scores, strict=True) if score is not None]
    if len(known) < 2:
        raise Rejection("unscored")
    read = [question.answer(answer) for answer, _ in known]
    changes = question.changes | (UNSCORED if len(known) < len(answers) else 0)
    return _pairs(question.prompt, read, [score for _, score in known], changes, how)


def score_of(value: Any) -> float | None:
    """Return a score, or None where there is none: null, nan, or a word that says so. Raise Rejection for a text."""
    missing = value is None or value != value or (isinstance(value, str) and value.strip() in {"", *MISSING})
    return None if missing else number_of(value)


def _pairs(
    prompt: list[Message], answers: list[list[Message]], scores: Sequence[float], changes: int, how: Choice
) -> Iterator[PreferenceExample | Rejection]:
    for better, worse in candidates(scores, how.pairs):
        if reason := too_close(scores[better] - scores[worse], how):
            yield Rejection(reason)
        else:
            yield PreferenceExample(prompt, answers[better], answers[worse], changes)
