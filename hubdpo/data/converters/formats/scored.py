"""`scored`: a prompt and answers with a score each (UltraFeedback, HelpSteer, lists of responses and ratings)."""

from __future__ import annotations

from collections.abc import Iterator

from hubdpo.data.converters.contract import Converter
from hubdpo.data.converters.pairing import ConvertOptions, ScoredList, pairs_by_score
from hubdpo.data.converters.prompts import SYSTEM, prompt_group, read_prompt_of
from hubdpo.data.pairs.example import PreferenceExample, Rejection, Row, ScoredAnswer, number_of
from hubdpo.data.pairs.messages import first_of

PROMPTS = ("prompt", "instruction", "question", "user_input", "input")
LISTS = ScoredList(
    answers=("completions", "responses", "generations", "answers", "responses_and_scores"),
    texts=("response", "completion", "text", "answer", "content"),
    scores=("overall_score", "fine-grained_score", "score", "rating"),
    score_lists=("scores", "ratings", "rating", "rewards"),
)
HELPSTEER = ("helpfulness", "correctness", "coherence", "complexity", "verbosity")
"""HelpSteer has one answer per row, with these scores."""


def detect(row: Row) -> bool:
    if first_of(row, PROMPTS) is None:
        return False
    if isinstance(row.get("response"), str) and all(isinstance(row.get(name), (int, float)) for name in HELPSTEER):
        return True
    if not LISTS.detect(row):
        return False
    objects = [item for item in first_of(row, LISTS.answers) if isinstance(item, dict)]
    return not objects or any(first_of(item, LISTS.scores) is not None for item in objects)


def convert(row: Row, how: ConvertOptions) -> ScoredAnswer | Iterator[PreferenceExample | Rejection]:
    """Pair the answers of a row by their scores; a single answer waits for others to the same prompt."""
    prompt = read_prompt_of(row, PROMPTS)
    if "response" in row and first_of(row, LISTS.answers) is None:
        return prompt.scored(row.get("response"), number_of(row.get(how.score_field or HELPSTEER[0])))
    return pairs_by_score(prompt, *LISTS.read(row, how.score_field), how)


CONVERTER = Converter(
    "scored",
    "answers with scores",
    detect,
    convert,
    reads=(prompt_group(*PROMPTS), (*LISTS.answers, ("response", HELPSTEER[0])), LISTS.score_lists, "history", SYSTEM),
    options=("pairs", "min_margin", "score_field"),
)
