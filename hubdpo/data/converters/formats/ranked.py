"""`ranked`: a prompt and answers with a rank each, 1 the best (Nectar, NeMo-RL, InstructGPT style)."""

from __future__ import annotations

from collections.abc import Iterator

from hubdpo.data.converters.contract import Converter
from hubdpo.data.converters.pairing import ConvertOptions, ScoredList, pairs_by_score
from hubdpo.data.converters.prompts import SYSTEM, prompt_group, read_prompt_of
from hubdpo.data.pairs.example import PreferenceExample, Rejection, Row
from hubdpo.data.pairs.messages import first_of

PROMPTS = ("prompt", "context")
LISTS = ScoredList(
    answers=("answers", "completions", "responses"),
    texts=("answer", "completion", "response", "text"),
    scores=("rank",),
    score_lists=("ranks", "rank"),
)


def detect(row: Row) -> bool:
    return first_of(row, PROMPTS) is not None and LISTS.detect(row)


def convert(row: Row, how: ConvertOptions) -> Iterator[PreferenceExample | Rejection]:
    """Pair the answers of a row by their ranks."""
    prompt = read_prompt_of(row, PROMPTS)
    answers, ranks = LISTS.read(row)
    return pairs_by_score(prompt, answers, [None if rank is None else -rank for rank in ranks], how)


CONVERTER = Converter(
    "ranked",
    "answers with ranks",
    detect,
    convert,
    reads=(prompt_group(*PROMPTS), LISTS.answers, LISTS.score_lists, "history", SYSTEM),
    options=("pairs", "min_margin"),
)
