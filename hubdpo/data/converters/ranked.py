"""`ranked`: one prompt and answers with a rank, 1 the best (Nectar, NeMo-RL, InstructGPT style)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hubdpo.data.converters import hh_rlhf
from hubdpo.data.converters.choice import Choice, candidates, too_close
from hubdpo.data.preference import PreferenceExample, Rejection, answered, asked, number_of

ANSWERS = ("answers", "completions", "responses")
TEXTS = ("answer", "completion", "response", "text")


def detect(row: dict[str, Any]) -> bool:
    if row.get("prompt") is None and row.get("context") is None:
        return False
    answers = _first(row, ANSWERS)
    if not isinstance(answers, list) or len(answers) < 2:
        return False
    if all(isinstance(item, dict) for item in answers):
        return all("rank" in item and _first(item, TEXTS) is not None for item in answers)
    return isinstance(row.get("ranks"), list)


def convert(row: dict[str, Any], how: Choice) -> Iterator[PreferenceExample | Rejection]:
    """Compare the answers of a row by their ranks; a prompt written as a transcript is split into its turns."""
    value = row.get("prompt", row.get("context"))
    prompt = hh_rlhf.history(value) if isinstance(value, str) and hh_rlhf.is_transcript(value) else asked(value)
    answers = _first(row, ANSWERS)
    if not isinstance(answers, list):
        raise Rejection("missing_field" if answers is None else "wrong_type")
    if len(answers) < 2:
        raise Rejection("single_answer")
    if all(isinstance(item, dict) for item in answers):
        ranks = [number_of(item.get("rank")) for item in answers]
        answers = [_first(item, TEXTS) for item in answers]
    else:
        ranks = [number_of(rank) for rank in row.get("ranks") or []]
    if len(ranks) != len(answers):
        raise Rejection("missing_field")
    for better, worse in candidates([-rank for rank in ranks], how.pairs):
        if reason := too_close(ranks[worse] - ranks[better], how):
            yield Rejection(reason)
        else:
            yield PreferenceExample(prompt, answered(answers[better], prompt), answered(answers[worse], prompt))


def _first(row: dict[str, Any], names: tuple[str, ...]) -> Any:
    return next((row[name] for name in names if row.get(name) is not None), None)
