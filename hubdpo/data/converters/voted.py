"""`voted`: two answers and a vote (SHP, arena battles, HelpSteer preferences, pairwise judges).

The same value means different things in different sets (0 is "the first wins" here and "a tie" there), so a vote is
read only where a published schema fixes its meaning; any other set must say it with `--labels first=...,second=...`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson

from hubdpo.data.converters.choice import Choice, too_close
from hubdpo.data.preference import Message, PreferenceExample, Rejection, answered, asked, number_of
from hubdpo.errors import ConfigError

PROMPTS = ("prompt", "instruction", "question", "context", "history", "input")
ANSWERS = (
    ("human_ref_A", "human_ref_B"), ("conversation_a", "conversation_b"), ("response_a", "response_b"),
    ("response_1", "response_2"), ("response1", "response2"), ("output_1", "output_2"), ("answer_a", "answer_b"),
    ("completion_a", "completion_b"),
)  # fmt: skip
VOTES = ("labels", "winner", "overall_preference", "preference_strength", "preference", "winner_model_a", "label")
TIES = ("tie", "tie (bothbad)", "tie (inconsistent)")
LABELS_HINT = "--labels first=1,second=2,tie=0"


@dataclass(frozen=True)
class Vote:
    """Above 0 the first answer won, below 0 the second, 0 is a tie; the size is the margin where the set has one."""

    value: float


def parse_labels(text: str) -> dict[str, str]:
    """Read `first=1,second=2,tie=0` into {value: meaning}. Raise ConfigError unless first and second are named."""
    pairs = [part.partition("=") for part in text.split(",")]
    meanings = {value.strip(): name.strip() for name, _, value in pairs}
    named = sorted(meanings.values())
    if named not in (["first", "second"], ["first", "second", "tie"]) or len(meanings) != len(pairs):
        raise ConfigError(f"`--labels` must give first and second one value each: {text}", hint=LABELS_HINT)
    return meanings


def detect(row: dict[str, Any]) -> bool:
    return _sides(row) is not None and any(name in row for name in VOTES)


def convert(row: dict[str, Any], how: Choice) -> PreferenceExample:
    """Convert a row whose vote is known; a tie, or a margin below the least one, is a Rejection."""
    sides = _sides(row)
    if sides is None:
        raise Rejection("missing_field")
    vote = _vote(row, how).value
    if reason := too_close(abs(vote), how):
        raise Rejection(reason)
    prompt, first, second = _conversations(row, *sides)
    return PreferenceExample(prompt, first, second) if vote > 0 else PreferenceExample(prompt, second, first)


def _sides(row: dict[str, Any]) -> tuple[str, str] | None:
    return next((names for names in ANSWERS if names[0] in row and names[1] in row), None)


def _vote(row: dict[str, Any], how: Choice) -> Vote:
    if how.labels is not None:
        return _named(row, how.labels)
    for name, read in READERS.items():
        if name in row:
            return read(row)
    raise Rejection("unknown_label")


def _named(row: dict[str, Any], labels: dict[str, str]) -> Vote:
    value = next((row[name] for name in VOTES if row.get(name) is not None), None)
    if value is None:
        raise Rejection("missing_field")
    text = f"{value:g}" if isinstance(value, (int, float)) and not isinstance(value, bool) else str(value)
    if text not in labels:
        raise Rejection("unknown_label")
    return Vote({"first": 1.0, "second": -1.0, "tie": 0.0}[labels[text]])


def _shp(row: dict[str, Any]) -> Vote:
    if row["labels"] not in (0, 1) or isinstance(row["labels"], bool):
        raise Rejection("unknown_label")
    return Vote(1.0 if row["labels"] == 1 else -1.0)


def _winner(row: dict[str, Any]) -> Vote:
    value = row["winner"]
    if value in TIES:
        return Vote(0.0)
    if value not in ("model_a", "model_b"):
        raise Rejection("missing_field" if value is None else "unknown_label")
    return Vote(1.0 if value == "model_a" else -1.0)


def _columns(row: dict[str, Any]) -> Vote:
    flags = [number_of(row.get(name)) for name in ("winner_model_a", "winner_model_b", "winner_tie")]
    if sorted(flags) != [0.0, 0.0, 1.0]:
        raise Rejection("unknown_label")
    return Vote(flags[0] - flags[1])


def _signed(name: str) -> Callable[[dict[str, Any]], Vote]:
    """HelpSteer: from -3 (the first is much better) to 3 (the second is)."""
    return lambda row: Vote(-number_of(row[name]))


def _one_or_two(row: dict[str, Any]) -> Vote:
    """Pairwise judges: 1 the first, 2 the second, and where votes were averaged anything between (1.5 is a tie)."""
    value = number_of(row["preference"])
    if not 1 <= value <= 2:
        raise Rejection("unknown_label")
    return Vote(1.5 - value)


READERS: dict[str, Callable[[dict[str, Any]], Vote]] = {
    "labels": _shp, "winner": _winner, "winner_model_a": _columns, "overall_preference": _signed("overall_preference"),
    "preference_strength": _signed("preference_strength"), "preference": _one_or_two,
}  # fmt: skip
"""Votes whose meaning a published schema fixes. A column named `label` is not among them."""


def _conversations(row: dict[str, Any], a: str, b: str) -> tuple[list[Message], list[Message], list[Message]]:
    if a == "conversation_a":
        return _whole(asked(row[a]), asked(row[b]))
    value = next((row[name] for name in PROMPTS if row.get(name) is not None), None)
    if "winner_model_a" in row:
        turns, first, second = (_texts(item) for item in (value, row[a], row[b]))
        return _whole(_interleaved(turns, first), _interleaved(turns, second))
    prompt = asked(value)
    return prompt, answered(row[a], prompt), answered(row[b], prompt)


def _whole(first: list[Message], second: list[Message]) -> tuple[list[Message], list[Message], list[Message]]:
    if not first or not second:
        raise Rejection("empty_answer")
    if first[:-1] != second[:-1]:
        raise Rejection("histories_differ")
    return first[:-1], first[-1:], second[-1:]


def _texts(value: Any) -> list[Any]:
    """Read the lists that the Kaggle arena file keeps as JSON inside a string; plain text stays one turn."""
    if isinstance(value, str) and value.startswith("["):
        try:
            value = orjson.loads(value)
        except orjson.JSONDecodeError:
            raise Rejection("wrong_type") from None
    return value if isinstance(value, list) else [value]


def _interleaved(turns: list[Any], answers: list[Any]) -> list[Message]:
    if len(turns) != len(answers):
        raise Rejection("histories_differ")
    messages: list[Message] = []
    for question, answer in zip(turns, answers, strict=True):
        if question is None or answer is None:
            raise Rejection("missing_field")
        if not isinstance(question, str) or not isinstance(answer, str):
            raise Rejection("wrong_type")
        messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return messages
