"""`stack-exchange-paired`: a question with the better answer in response_j (lvwerra/stack-exchange-paired)."""

from __future__ import annotations

from typing import Any

from hubdpo.data.columns import Columns
from hubdpo.data.converters.preference import many_from_texts
from hubdpo.data.preference import PreferenceExample, say, text_of

FIELDS = ("question", "response_j", "response_k")


def detect(row: dict[str, Any]) -> bool:
    return all(isinstance(row.get(name), str) for name in FIELDS)


def convert(row: dict[str, Any]) -> PreferenceExample:
    return PreferenceExample(
        say("user", text_of(row, "question")),
        say("assistant", text_of(row, "response_j")),
        say("assistant", text_of(row, "response_k")),
    )


def convert_many(rows: list[dict[str, Any]]) -> Columns | None:
    return many_from_texts(*([row.get(name) for row in rows] for name in FIELDS))
