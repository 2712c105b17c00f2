"""`ranked`: one prompt and answers with a rank, 1 the best (Nectar, NeMo-RL, InstructGPT style)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hubdpo.data.converters.asking import ask_row, prompts
from hubdpo.data.converters.choice import Choice, compared, score_of
from hubdpo.data.pairs.example import PreferenceExample, Rejection
from hubdpo.data.pairs.messages import first_of

PROMPTS = ("prompt", "context")
ANSWERS = ("answers", "completions", "responses")
TEXTS = ("answer", "completion", "response", "text")
RANKS = ("ranks", "rank")
READS = (prompts(*PROMPTS), ANSWERS, RANKS, "history")


def detect(row: dict[str, Any]) -> bool:
    if first_of(row, PROMPTS) is None:
        return False
    answers = first_of(row, ANSWERS)
    if not isinstance(answers, list) or not answers:
        return False
    if all(isinstance(item, dict) for item in answers):
        return all("rank" in item and first_of(item, TEXTS) is not None for item in answers)
    return isinstance(first_of(row, RANKS), list)


def convert(row: dict[str, Any], how: Choice) -> Iterator[PreferenceExample | Rejection]:
    """Compare the answers of a row by their ranks."""
    question = ask_row(row, PROMPTS)
    answers = first_of(row, ANSWERS)
    if not isinstance(answers, list):
        raise Rejection("missing_field" if answers is None else "wrong_type")
    if len(answers) < 2:
        raise Rejection("single_answer" if answers else "missing_field")
    if all(isinstance(item, dict) for item in answers):
        ranks = [score_of(item.get("rank")) for item in answers]
        answers = [first_of(item, TEXTS) for item in answers]
    else:
        given = first_of(row, RANKS)
        if not isinstance(given, list):
            raise Rejection("missing_field" if given is None else "wrong_type")
        ranks = [score_of(rank) for rank in given]
    if len(ranks) != len(answers):
        raise Rejection("lists_differ")
    return compared(question, answers, [None if rank is None else -rank for rank in ranks], how)
