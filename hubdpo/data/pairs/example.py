"""A preference pair as converters return it, and the rejection of a row that is none."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from hubdpo.artefacts.formats.messages import Message
from hubdpo.errors import DataError

T = TypeVar("T")
Row = dict[str, Any]
"""A raw row: the parsed JSON object of a line, or the columns of a table's row."""
CHANGES = (
    "stripped_leading_newlines", "redacted_secret", "prompt_cut_by_message", "taken_out_of_template",
    "system_column_left_out", "unscored_answers_left_out", "text_taken_out_of_list",
)  # fmt: skip
"""What prepare may change in a row that it keeps. Each name is a bit in the row keys, from the lowest."""
# row keys hold these bits in a uint8, so there is room for one more name
STRIPPED, REDACTED, CUT, UNRENDERED, SYSTEM_LEFT_OUT, UNSCORED, UNLISTED = (1 << bit for bit in range(len(CHANGES)))
_DECIMAL_COMMA = re.compile(r"\s*[+-]?(?:0,\d+|\d+,\d{1,2})\s*")
"""Match `1,5` but not `1,500`, which is fifteen hundred in English and one and a half elsewhere."""


@dataclass(slots=True)
class PreferenceExample:
    """A prompt with a chosen and a rejected answer.

    `prompt` ends with a user or tool turn; `chosen` and `rejected` continue it, starting with an assistant turn.
    """

    prompt: list[Message]
    chosen: list[Message]
    rejected: list[Message]
    changes: int = 0
    """What the converter changed, as bits of CHANGES."""
    tools: str = ""
    """The tools that the assistant may call, as the JSON of a list; "" if there are none."""
    scores: tuple[float, float] | None = None
    """Scores of chosen and rejected, higher is better; None if the answers were not compared by scores."""


@dataclass(slots=True)
class ScoredAnswer:
    """One answer with its score. It becomes a pair with an answer to the same prompt from another row."""

    prompt: list[Message]
    answer: list[Message]
    score: float
    changes: int = 0
    tools: str = ""


class Rejection(Exception):
    """A row, or one pair of a row, is dropped; `reason` is the code under which it is counted."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class NotText(Rejection):
    """A row holds an image, video or sound. No option drops such rows: the text alone would teach something else."""

    def __init__(self, kind: str, where: str) -> None:
        super().__init__({"image": "images", "video": "videos"}.get(kind, kind))
        self.where = where

    def refusal(self, rows: str = "the rows") -> DataError:
        """Return the error; `rows` says how many they are."""
        return DataError(
            f"{rows} have {self.reason} ({self.where}), and hubdpo trains on text only",
            hint="remove these rows from the source, or the column if the text makes sense without it",
        )


Converted = PreferenceExample | ScoredAnswer | Iterable[PreferenceExample | Rejection]
"""The result of a converter: a pair, an answer to be paired, or several pairs and the rejections among them."""


def number_of(value: Any) -> float:
    """Return a finite number, also from text such as `1.0`, ` 1 ` or `1,5`.

    Raise Rejection for anything else, including booleans.
    """
    if value is None:
        raise Rejection("missing_field")
    if isinstance(value, str) and _DECIMAL_COMMA.fullmatch(value):
        value = value.replace(",", ".")
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise Rejection("wrong_type") from None
    # NaN fails both comparisons, and infinity one; True would be 1.0
    if isinstance(value, bool) or not -1e308 < number < 1e308:
        raise Rejection("wrong_type")
    return number


def expect(value: object, kind: type[T]) -> T:
    """Return a value of this type. Raise Rejection for any other."""
    if not isinstance(value, kind):
        raise Rejection("missing_field" if value is None else "wrong_type")
    return value


def is_number(value: object) -> bool:
    """Return whether `number_of` accepts a value."""
    try:
        number_of(value)
    except Rejection:
        return False
    return True


def single_turn(role: str, content: str) -> list[Message]:
    return [{"role": role, "content": content}]


def change_names(bits: int) -> list[str]:
    return [name for bit, name in enumerate(CHANGES) if bits & 1 << bit]
