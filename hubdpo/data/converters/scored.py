"""`scored`: one prompt, several answers, a score each (UltraFeedback, HelpSteer, lists of responses and ratings)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hubdpo.data.converters.asking import ask_row, prompts
from hubdpo.data.converters.choice import Choice, compared, score_of
from hubdpo.data.pairs.example import PreferenceExample, Rated, Rejection, number_of
from hubdpo.data.pairs.messages import first_of

PROMPTS = ("prompt", "instruction", "question", "user_input", "input")
ANSWERS = ("completions", "responses", "generations", "answers", "responses_and_scores")
TEXTS = ("response", "completion", "text", "answer", "content")
SCORES = ("overall_score", "fine-grained_score", "score", "rating")
LISTS = ("scores", "ratings", "rating", "rewards")
HELPSTEER = ("helpfulness", "correctness", "coherence", "complexity", "verbosity")
READS = (prompts(*PROMPTS), (*ANSWERS, ("response", HELPSTEER[0])), LISTS, "history")


def detect(row: dict[str, Any]) -> bool:
    if first_of(row, PROMPTS) is None:
        return False
    if isinstance(row.get("response"), str) and all(isinstance(row.get(name), (int, float)) for name in HELPSTEER):
        return True
    answers = first_of(row, ANSWERS)
    if not isinstance(answers, list) or not answers:
        return False
    if all(isinstance(item, dict) for item in answers):
        scored = [any(name in item for name in SCORES) and first_of(item, TEXTS) is not None for item in answers]
        return all(scored) and any(first_of(item, SCORES) is not None for item in answers)
    return isinstance(first_of(row, LISTS), list)


def convert(row: dict[str, Any], how: Choice) -> Rated | Iterator[PreferenceExample | Rejection]:
    """Compare the answers of a row by their scores; a row of one answer waits for the others to its prompt."""
    question = ask_row(row, PROMPTS)
    if "response" in row and first_of(row, ANSWERS) is None:
        return question.rated(row.get("response"), number_of(row.get(how.score_field or HELPSTEER[0])))
    return compared(question, *_scored(row, how), how)


def _scored(row: dict[str, Any], how: Choice) -> tuple[list[Any], list[float | None]]:
    answers = first_of(row, ANSWERS)
    if answers is None:
        raise Rejection("missing_field")
    if not isinstance(answers, list):
        raise Rejection("wrong_type")
    if len(answers) < 2:
        raise Rejection("single_answer" if answers else "missing_field")
    if all(isinstance(item, dict) for item in answers):
        fields = (how.score_field,) if how.score_field else SCORES
        return [first_of(item, TEXTS) for item in answers], [score_of(first_of(item, fields)) for item in answers]
    values = first_of(row, (how.score_field,) if how.score_field else LISTS)
    if not isinstance(values, list):
        raise Rejection("missing_field" if values is None else "wrong_type")
    if len(values) != len(answers):
        raise Rejection("lists_differ")
    return answers, [score_of(value) for value in values]
