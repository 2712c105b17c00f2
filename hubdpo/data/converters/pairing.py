"""Choose the pairs to make from several scored answers to one prompt."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from hubdpo.artefacts.formats.messages import Message
from hubdpo.data.converters.cells import MISSING
from hubdpo.data.converters.prompts import Prompt
from hubdpo.data.pairs.example import UNSCORED, PreferenceExample, Rejection, Row, number_of
from hubdpo.data.pairs.messages import first_of

Pairing = Literal["best-worst", "all", "adjacent"]


@dataclass(frozen=True)
class ConvertOptions:
    """The options of prepare that decide which answer is better."""

    pairs: Pairing = "best-worst"
    min_margin: float = 0.0
    """The least difference of scores that counts as a preference."""
    score_field: str | None = None
    """The score to compare, where answers have several."""
    labels: dict[str, str] | None = None
    """The meaning of the values of a vote or label: {value: `first`, `second`, `tie`, `good` or `bad`}."""


def candidates(scores: Sequence[float], pairs: Pairing) -> Iterator[tuple[int, int]]:
    """Yield (better, worse) indices of the pairs to compare; equal scores included, to be counted as ties.

    `best-worst` yields one pair, `adjacent` each neighbour in the order of scores, `all` every two answers. Of equal
    scores the earlier answer comes first, so that the pairs depend on nothing but the row.
    """
    order = sorted(range(len(scores)), key=lambda i: (-scores[i], i))
    if len(order) < 2:
        return
    if pairs == "best-worst":
        yield order[0], order[-1]
    elif pairs == "adjacent":
        yield from zip(order, order[1:], strict=False)
    else:
        for rank, better in enumerate(order):
            for worse in order[rank + 1 :]:
                yield better, worse


def too_close(margin: float, how: ConvertOptions) -> str | None:
    """Return the rejection reason if a difference of scores is no preference, else None."""
    if margin == 0:
        return "tie"
    return "below_margin" if margin < how.min_margin else None


def score_of(value: object) -> float | None:
    """Return a score, or None for null, NaN and words for a missing value. Raise Rejection for other text."""
    missing = value is None or value != value or (isinstance(value, str) and value.strip() in {"", *MISSING})
    return None if missing else number_of(value)


@dataclass(frozen=True)
class ScoredList:
    """The columns with several scored answers in a row: a list of objects, or of texts and one of scores."""

    answers: tuple[str, ...]
    """Columns with the list of answers."""
    texts: tuple[str, ...]
    """Members of an answer object with its text."""
    scores: tuple[str, ...]
    """Members of an answer object with its score."""
    score_lists: tuple[str, ...]
    """Columns with the list of scores, where the answers are texts."""

    def detect(self, row: Row) -> bool:
        answers = first_of(row, self.answers)
        if not isinstance(answers, list) or not answers:
            return False
        if not all(isinstance(item, dict) for item in answers):
            return isinstance(first_of(row, self.score_lists), list)
        return all(
            any(name in item for name in self.scores) and first_of(item, self.texts) is not None for item in answers
        )

    def read(self, row: Row, score_field: str | None = None) -> tuple[list[object], list[float | None]]:
        """Return the answers and their scores, of equal length. Raise Rejection for fewer than two."""
        answers = first_of(row, self.answers)
        if not isinstance(answers, list):
            raise Rejection("missing_field" if answers is None else "wrong_type")
        if len(answers) < 2:
            raise Rejection("single_answer" if answers else "missing_field")
        if all(isinstance(item, dict) for item in answers):
            members = (score_field,) if score_field else self.scores
            scores = [first_of(item, members) for item in answers]
            answers = [first_of(item, self.texts) for item in answers]
        else:
            scores = first_of(row, (score_field,) if score_field else self.score_lists)
            if not isinstance(scores, list):
                raise Rejection("missing_field" if scores is None else "wrong_type")
            if len(scores) != len(answers):
                raise Rejection("lists_differ")
        return answers, [score_of(score) for score in scores]


def pairs_by_score(
    prompt: Prompt, answers: Sequence[object], scores: Sequence[float | None], how: ConvertOptions
) -> Iterator[PreferenceExample | Rejection]:
    """Read the answers and yield the pairs that their scores make, a Rejection for each that is no preference.

    An answer without a score is left out. Raise Rejection, before anything is yielded, unless two have one.
    """
    scored = [(answer, score) for answer, score in zip(answers, scores, strict=True) if score is not None]
    if len(scored) < 2:
        raise Rejection("unscored")
    messages = [prompt.read_answer(answer) for answer, _ in scored]
    changes = prompt.changes | (UNSCORED if len(scored) < len(answers) else 0)
    return _pairs(prompt.messages, messages, [score for _, score in scored], changes, how)


def _pairs(
    prompt: list[Message], answers: list[list[Message]], scores: Sequence[float], changes: int, how: ConvertOptions
) -> Iterator[PreferenceExample | Rejection]:
    for better, worse in candidates(scores, how.pairs):
        if reason := too_close(scores[better] - scores[worse], how):
            yield Rejection(reason)
        else:
            yield PreferenceExample(prompt, answers[better], answers[worse], changes)
