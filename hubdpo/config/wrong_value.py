"""What is wrong with a value of an option, in words, and which value was probably meant."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from datetime import date
from typing import Annotated, Any

from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from hubdpo.errors import ConfigError

NOT_A = {
    "int_parsing": "a whole number", "int_type": "a whole number", "int_from_float": "a whole number",
    "float_parsing": "a number", "float_type": "a number", "string_type": "a text",
}  # fmt: skip
"""What a value is not, by pydantic's type of the error."""
VARIABLE = re.compile(r"\$\{[A-Z][A-Z0-9_]*\}")
"""A variable of a shell."""
NUMBERS = re.compile(r"\s*[-+.\de]+\s*(,\s*[-+.\de]+\s*)+", re.IGNORECASE)
"""Several numbers with commas between them."""
LONGEST_SHOWN = 200


def shown(value: object) -> str:
    """Return a value as one line of a message: cut after 200 characters, with its type."""
    text = repr(value) if isinstance(value, str) else " ".join(repr(value).split())
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}... (a {type(value).__name__})"


def whole_number(value: object) -> int | None:
    """Return the whole number that is meant by a positive one with a fraction, the next; None for anything else."""
    try:
        number = float(str(value))
    except ValueError:
        return None
    return math.ceil(number) if 0 < number < math.inf else None


def fits(value: object, field: FieldInfo) -> bool:
    """Return whether a value is of the type of a field and within its bounds."""
    bounded: Any = Annotated[field.annotation, field]
    try:
        TypeAdapter(bounded).validate_python(value)
    except ValidationError:
        return False
    return True


def several_numbers(value: object) -> list[str]:
    """Return the numbers of a text such as `0.05,0.1`, or of a list; none where it is anything else."""
    if isinstance(value, (list, tuple)):
        value = ",".join(map(str, value))
    return [part.strip() for part in value.split(",")] if isinstance(value, str) and NUMBERS.fullmatch(value) else []


def quotes_hint(key: str, value: object) -> str | None:
    """Return a hint if YAML took a word, a text of digits or a date for a value of another type."""
    if isinstance(value, bool):
        word = "yes" if value else "no"
        return f'put it in quotes, as YAML reads a bare `{word}` as {str(value).lower()}: {key}"{word}"'
    return f'put it in quotes: {key}"{value}"' if isinstance(value, (int, float, date)) else None


def needed(called: str, meaning: str) -> str:
    """Return the message for an option or an argument without a value, with what it is."""
    return f"{called} is needed: {meaning[:1].lower()}{meaning[1:]}".rstrip(".").removesuffix(": ")


def as_one(problems: Sequence[ConfigError]) -> ConfigError:
    """Return several errors as one line, and what to do about each."""
    hints = dict.fromkeys(problem.hint for problem in problems if problem.hint)
    return ConfigError("; ".join(problem.message for problem in problems), hint="; ".join(hints))
