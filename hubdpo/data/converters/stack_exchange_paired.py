"""`stack-exchange-paired`: a question with the better answer in response_j (lvwerra/stack-exchange-paired)."""

from __future__ import annotations

from typing import Any

from hubdpo.data.converters.preference import many_from_texts, systems_of
from hubdpo.data.converters.question import ask, system_of
from hubdpo.data.pairs.example import PreferenceExample
from hubdpo.data.pairs.message_column import Columns

FIELDS = ("question", "response_j", "response_k")
READS = FIELDS


def detect(row: dict[str, Any]) -> bool:
    return all(isinstance(row.get(name), str) for name in FIELDS)


def convert(row: dict[str, Any]) -> PreferenceExample:
    question, better, worse = (row.get(name) for name in FIELDS)
    return ask(question, system=system_of(row)).pair(better, worse)


def convert_many(rows: list[dict[str, Any]]) -> Columns | None:
    questions, better, worse = ([row.get(name) for row in rows] for name in FIELDS)
    return many_from_texts(questions, better, worse, systems_of(rows))
