"""`answer-lists`: a prompt with lists of better and of worse answers, such as RM-Bench and rows with many negatives."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product, zip_longest

from hubdpo.data.converters.contract import Converter, ConvertOptions
from hubdpo.data.converters.formats.preference import CHOSEN, REJECTED
from hubdpo.data.converters.prompts import SYSTEM, are_texts, prompt_group, read_prompt_of
from hubdpo.data.pairs.example import PreferenceExample, Rejection, Row
from hubdpo.data.pairs.messages import first_of

PROMPTS = ("prompt", "instruction", "question", "query", "input")


def detect(row: Row) -> bool:
    sides = [first_of(row, names) for names in (CHOSEN, REJECTED)]
    texts = all(isinstance(side, str) or are_texts(side) for side in sides)
    return first_of(row, PROMPTS) is not None and texts and any(are_texts(side, 2) for side in sides)


def convert(row: Row, how: ConvertOptions) -> Iterator[PreferenceExample | Rejection]:
    """Pair the n-th better answer with the n-th worse one, and with every worse one if all pairs are wanted."""
    better, worse = (_answers(first_of(row, names)) for names in (CHOSEN, REJECTED))
    prompt = read_prompt_of(row, PROMPTS)
    if how.pairs == "all":
        return (prompt.pair(*sides) for sides in product(better, worse))
    pairs = zip_longest(better, worse)
    return (Rejection("left_over") if None in sides else prompt.pair(*sides) for sides in pairs)


def _answers(value: object) -> list[str]:
    answers = [value] if isinstance(value, str) else value
    if not isinstance(answers, list) or not are_texts(answers):
        raise Rejection("wrong_type" if answers else "missing_field")
    return answers


ANSWERS = (*CHOSEN, *REJECTED)
READS = (prompt_group(*PROMPTS), CHOSEN, REJECTED, "history", SYSTEM)
ANSWER_LISTS = Converter(
    "answer-lists", "lists of better and worse answers", detect, convert, READS, ANSWERS, options=("pairs",)
)
