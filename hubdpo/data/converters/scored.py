"""`scored`: one prompt, several answers, a score each (UltraFeedback, HelpSteer, lists of responses and ratings)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hubdpo.data.converters.choice import Choice, candidates, too_close
from hubdpo.data.preference import Message, PreferenceExample, Rated, Rejection, answered, asked, number_of, text_of

PROMPTS = ("prompt", "instruction", "question", "input")
ANSWERS = ("completions", "responses", "generations", "answers")
TEXTS = ("response", "completion", "text", "answer", "content")
SCORES = ("overall_score", "fine-grained_score", "score", "rating")
LISTS = ("scores", "ratings", "rating")
HELPSTEER = ("helpfulness", "correctness", "coherence", "complexity", "verbosity")


def detect(row: dict[str, Any]) -> bool:
    if _first(row, PROMPTS) is None:
        return False
    if isinstance(row.get("response"), str) and all(isinstance(row.get(name), (int, float)) for name in HELPSTEER):
        return True
    answers = _first(row, ANSWERS)
    if not isinstance(answers, list) or len(answers) < 2:
        return False
    if all(isinstance(item, dict) for item in answers):
        return all(_first(item, TEXTS) is not None and _first(item, SCORES) is not None for item in answers)
    return isinstance(_first(row, LISTS), list)


def convert(row: dict[str, Any], how: Choice) -> Rated | Iterator[PreferenceExample | Rejection]:
    """Compare the answers of a row by their scores; a row of one answer waits for the others to its prompt."""
    prompt = asked(_first(row, PROMPTS))
    if "response" in row and _first(row, ANSWERS) is None:
        answer = answered(text_of(row, "response"), prompt)
        return Rated(prompt, answer, number_of(row.get(how.score_field or HELPSTEER[0])))
    return _compared(prompt, *_scored(row, prompt, how), how)


def _scored(row: dict[str, Any], prompt: list[Message], how: Choice) -> tuple[list[list[Message]], list[float]]:
    answers = _first(row, ANSWERS)
    if answers is None:
        raise Rejection("missing_field")
    if not isinstance(answers, list):
        raise Rejection("wrong_type")
    if len(answers) < 2:
        raise Rejection("single_answer")
    if all(isinstance(item, dict) for item in answers):
        fields = (how.score_field,) if how.score_field else SCORES
        scores = [number_of(_first(item, fields)) for item in answers]
        return [answered(_first(item, TEXTS), prompt) for item in answers], scores
    values = _first(row, (how.score_field,) if how.score_field else LISTS)
    if not isinstance(values, list) or len(values) != len(answers):
        raise Rejection("missing_field" if values is None else "wrong_type")
    return [answered(item, prompt) for item in answers], [number_of(value) for value in values]


def _compared(
    prompt: list[Message], answers: list[list[Message]], scores: list[float], how: Choice
) -> Iterator[PreferenceExample | Rejection]:
    for better, worse in candidates(scores, how.pairs):
        if reason := too_close(scores[better] - scores[worse], how):
            yield Rejection(reason)
        else:
            yield PreferenceExample(prompt, answers[better], answers[worse])


def _first(row: dict[str, Any], names: tuple[str, ...]) -> Any:
    return next((row[name] for name in names if row.get(name) is not None), None)
