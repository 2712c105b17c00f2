"""One preference: a prompt, a chosen and a rejected answer, all as message lists; and its one schema."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from hubdpo.artefacts.formats.messages import Message
from hubdpo.errors import DataError

_DECIMAL_COMMA = re.compile(r"\s*[+-]?(?:0,\d+|\d+,\d{1,2})\s*")
"""`1,5`, and not `1,500`, which is another number elsewhere."""


@dataclass(slots=True)
class PreferenceExample:
    """`prompt` ends with a user or tool turn; `chosen` and `rejected` go on from there with the assistant."""

    prompt: list[Message]
    chosen: list[Message]
    rejected: list[Message]
    changes: int = 0
    """What conversion altered, as the bits of CHANGES."""


@dataclass(slots=True)
class Rated:
    """Half a preference: one answer and its score. Answers to the same prompt, from other rows, make the pairs."""

    prompt: list[Message]
    answer: list[Message]
    score: float
    changes: int = 0


class Rejection(Exception):
    """A row, or a pair of a row, that is left out, for a reason that is counted under its code."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class NotText(Rejection):
    """A row with an image, a video or sound, which no option drops: its text alone would teach something else."""

    def __init__(self, kind: str, where: str) -> None:
        super().__init__({"image": "images", "video": "videos"}.get(kind, kind))
        self.where = where

    def refusal(self) -> DataError:
        return DataError(
            f"the rows have {self.reason} ({self.where}): hubdpo trains text",
            hint="take these rows, or the column where the text alone makes sense, out of the source",
        )


Made = PreferenceExample | Rated | Iterable[PreferenceExample | Rejection]
"""What a converter makes of a row: one pair, half a pair, or several pairs with a Rejection for each that fell out."""


def text_of(row: dict[str, Any], key: str) -> str:
    """Return a text field. Raise Rejection when it is missing, null or not text."""
    value = row.get(key)
    if value is None:
        raise Rejection("missing_field")
    if not isinstance(value, str):
        raise Rejection("wrong_type")
    return value


def number_of(value: Any) -> float:
    """Return a finite number, also one written as text: `1.0`, ` 1 `, `1,5`.

    Raise Rejection for anything else; a bool is no number.
    """
    if value is None:
        raise Rejection("missing_field")
    if isinstance(value, str) and _DECIMAL_COMMA.fullmatch(value):
        value = value.replace(",", ".")
    try:
        number = float(value) if not isinstance(value, bool) else float("nan")
    except (TypeError, ValueError):
        raise Rejection("wrong_type") from None
    if not -1e308 < number < 1e308:
        raise Rejection("wrong_type")
    return number


def say(role: str, content: str) -> list[Message]:
    return [{"role": role, "content": content}]


Row = dict[str, Any]
