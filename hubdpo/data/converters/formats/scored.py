"""`scored` and `ranked`: a prompt and answers with a score each, or with a rank, 1 the best.

UltraFeedback, HelpSteer and lists of responses and ratings have scores; Nectar, NeMo-RL and InstructGPT's style have
ranks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from hubdpo.data.converters.cells import MISSING
from hubdpo.data.converters.contract import Converter, ConvertOptions
from hubdpo.data.converters.prompts import SYSTEM, Prompt, Reads, prompt_group, read_prompt, read_prompt_of, system_of
from hubdpo.data.pairs.example import (
    UNSCORED,
    PreferenceExample,
    Rejection,
    Row,
    ScoredAnswer,
    expect,
    is_number,
    number_of,
)
from hubdpo.data.pairs.messages import first_of

ORDER = "ranking"
"""Column with the ids of the answers, the best first."""


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
        answers = expect(first_of(row, self.answers), list)
        if len(answers) < 2:
            raise Rejection("single_answer" if answers else "missing_field")
        if all(isinstance(item, dict) for item in answers):
            members = (score_field,) if score_field else self.scores
            scores = [first_of(item, members) for item in answers]
            answers = [first_of(item, self.texts) for item in answers]
        else:
            scores = expect(first_of(row, (score_field,) if score_field else self.score_lists), list)
            if len(scores) != len(answers):
                raise Rejection("lists_differ")
        return answers, [score_of(score) for score in scores]


PROMPTS = ("prompt", "instruction", "question", "user_input", "input", "contents")
LISTS = ScoredList(
    answers=("completions", "responses", "generations", "answers", "responses_and_scores", "output", "outputs"),
    texts=("response", "completion", "text", "answer", "content"),
    scores=("overall_score", "fine-grained_score", "score", "rating"),
    score_lists=("scores", "ratings", "rating", "rewards"),
)
HELPSTEER = ("helpfulness", "correctness", "coherence", "complexity", "verbosity")
"""HelpSteer has one answer per row, with these scores."""
ONE_ANSWER = ("response", HELPSTEER[0])
SUMMARY = ("info.post", "info.article", "summary.text", "summary.axes")
"""summarize_from_feedback has one summary per row, with scores in `axes`."""
POSTS, OVERALL = ("post", "article"), "overall"
RANKED_PROMPTS = ("prompt", "context")
RANKED_LISTS = ScoredList(
    answers=("answers", "completions", "responses"),
    texts=("answer", "completion", "response", "text"),
    scores=("rank",),
    score_lists=("ranks", "rank"),
)


def score_of(value: object) -> float | None:
    """Return a score, or None for null, NaN and words for a missing value. Raise Rejection for other text."""
    missing = value is None or value != value or (isinstance(value, str) and value.strip() in {"", *MISSING})
    return None if missing else number_of(value)


def detect(row: Row) -> bool:
    if _summary(row) is not None:
        return True
    if first_of(row, PROMPTS) is None:
        return False
    if isinstance(row.get("response"), str) and all(is_number(row.get(name)) for name in HELPSTEER):
        return True
    if not LISTS.detect(row):
        return False
    objects = [item for item in first_of(row, LISTS.answers) if isinstance(item, dict)]
    return not objects or any(first_of(item, LISTS.scores) is not None for item in objects)


def convert(row: Row, how: ConvertOptions) -> ScoredAnswer | Iterator[PreferenceExample | Rejection]:
    """Pair the answers of a row by their scores; a single answer waits for others to the same prompt."""
    if (summary := _summary(row)) is not None:
        score = number_of(summary["axes"].get(how.score_field or OVERALL))
        return read_prompt(first_of(row["info"], POSTS), system=system_of(row)).scored(summary.get("text"), score)
    prompt = read_prompt_of(row, PROMPTS)
    if "response" in row and first_of(row, LISTS.answers) is None:
        return prompt.scored(row.get("response"), number_of(row.get(how.score_field or HELPSTEER[0])))
    return scored_pairs(prompt, *LISTS.read(row, how.score_field), how)


def _summary(row: Row) -> Row | None:
    summary = row.get("summary")
    if not isinstance(summary, dict) or not isinstance(summary.get("axes"), dict):
        return None
    return summary if isinstance(row.get("info"), dict) else None


def scored_members(row: Row) -> list[Row]:
    """Return the objects in a row that hold the scores of its answers; the row itself if it has no others."""
    answers = first_of(row, LISTS.answers)
    items = [item for item in answers if isinstance(item, dict)] if isinstance(answers, list) else []
    return items or [summary["axes"] if (summary := _summary(row)) else row]


def detect_ranked(row: Row) -> bool:
    if first_of(row, RANKED_PROMPTS) is None:
        return False
    return RANKED_LISTS.detect(row) or (isinstance(row.get(ORDER), list) and bool(_with_ids(row)))


def convert_ranked(row: Row, how: ConvertOptions) -> Iterator[PreferenceExample | Rejection]:
    """Pair the answers of a row by their ranks."""
    prompt = read_prompt_of(row, RANKED_PROMPTS)
    if isinstance(row.get(ORDER), list) and (by_id := _with_ids(row)):
        order = row[ORDER]
        if len(order) != len(by_id) or any(name not in order for name in by_id):
            raise Rejection("lists_differ")
        return scored_pairs(prompt, [*by_id.values()], [-order.index(name) for name in by_id], how)
    answers, ranks = RANKED_LISTS.read(row)
    return scored_pairs(prompt, answers, [None if rank is None else -rank for rank in ranks], how)


def _with_ids(row: Row) -> dict[Any, object]:
    """Return the answers of a row by the ids that its ranking, the best first, names them by; empty without ids."""
    answers = first_of(row, RANKED_LISTS.answers)
    if isinstance(answers, list) and all(isinstance(item, dict) and _is_id(item.get("id")) for item in answers):
        answers = {item.get("id"): first_of(item, RANKED_LISTS.texts) for item in answers}
    return answers if isinstance(answers, dict) and len(answers) > 1 else {}


def _is_id(value: object) -> bool:
    return isinstance(value, (str, int))


def scored_pairs(
    prompt: Prompt, answers: Sequence[object], scores: Sequence[float | None], how: ConvertOptions
) -> Iterator[PreferenceExample | Rejection]:
    """Read the answers and yield the pairs that their scores make, a Rejection for each that is not a preference.

    An answer without a score is left out. Raise Rejection, before anything is yielded, unless two have one.
    """
    scored = [(answer, score) for answer, score in zip(answers, scores, strict=True) if score is not None]
    if len(scored) < 2:
        raise Rejection("unscored")
    said, points = [prompt.read_answer(answer) for answer, _ in scored], [score for _, score in scored]
    turns, changes = prompt.messages, prompt.changes | (UNSCORED if len(scored) < len(answers) else 0)
    return (
        Rejection(reason)
        if (reason := how.too_close(points[better] - points[worse]))
        else PreferenceExample(turns, said[better], said[worse], changes, scores=(points[better], points[worse]))
        for better, worse in how.candidates(points)
    )


READS: Reads = (
    prompt_group(*PROMPTS), (*LISTS.answers, ONE_ANSWER), LISTS.score_lists, *SUMMARY, "history", SYSTEM
)  # fmt: skip
SCORED = Converter(
    "scored", "answers with scores", detect, convert, READS, options=("pairs", "min_margin", "score_field")
)
RANKED_READS = (
    prompt_group(*RANKED_PROMPTS), RANKED_LISTS.answers, (*RANKED_LISTS.score_lists, ORDER), "history", SYSTEM
)  # fmt: skip
RANKED = Converter(
    "ranked", "answers with ranks", detect_ranked, convert_ranked, RANKED_READS, options=("pairs", "min_margin")
)
