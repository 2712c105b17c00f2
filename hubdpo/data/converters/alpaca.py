"""`alpaca`: instruction, input, chosen, rejected, as LLaMA-Factory, ms-swift and the Orca pairs write them."""

from __future__ import annotations

from typing import Any

from hubdpo.data.converters.asking import ask_row, is_two_texts, prompts
from hubdpo.data.pairs.example import PreferenceExample, Rejection
from hubdpo.data.pairs.messages import first_of

QUESTIONS = ("instruction", "question", "query", "input")
CHOSEN, REJECTED = ("chosen", "chosen_response", "response"), ("rejected", "rejected_response")
READS = (prompts(*QUESTIONS), (*CHOSEN, "output"), REJECTED, "history", "status")


def detect(row: dict[str, Any]) -> bool:
    if row.get("prompt") is not None or not isinstance(first_of(row, QUESTIONS), str):
        return False
    return all(isinstance(first_of(row, names), str) for names in (CHOSEN, REJECTED)) or is_two_texts(row.get("output"))


def convert(row: dict[str, Any]) -> PreferenceExample:
    """Convert a row; `output` is [better, worse]."""
    if row.get("status") == "tie":  # how the Orca pairs of distilabel mark what their judge could not tell apart
        raise Rejection("tie")
    chosen, rejected = first_of(row, CHOSEN), first_of(row, REJECTED)
    if chosen is None and rejected is None:
        output = row.get("output")
        if output is None or not is_two_texts(output):
            raise Rejection("missing_field" if output is None else "wrong_type")
        chosen, rejected = output
    return ask_row(row, QUESTIONS).pair(chosen, rejected)
