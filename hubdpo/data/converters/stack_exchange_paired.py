"""`stack-exchange-paired`: a question with the better answer in response_j (lvwerra/stack-exchange-paired)."""

from __future__ import annotations

from typing import Any

from hubdpo.data.preference import PreferenceExample, say, text_of


def detect(row: dict[str, Any]) -> bool:
    return all(isinstance(row.get(name), str) for name in ("question", "response_j", "response_k"))


def convert(row: dict[str, Any]) -> PreferenceExample:
    return PreferenceExample(
        say("user", text_of(row, "question")),
        say("assistant", text_of(row, "response_j")),
        say("assistant", text_of(row, "response_k")),
    )
