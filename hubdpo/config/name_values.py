"""Names and values in one text: `first=1,second=2`, or a JSON object.

Text with a comma is in double quotes: `first="yes, a",...`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable

from hubdpo.config.base import Unfit

_QUOTED = r'\s*"(?:[^"]|"")*"\s*'
_PAIR = re.compile(rf"({_QUOTED}(?==)|[^=,]*)(?:=({_QUOTED}|[^,]*))?,")


def read_pairs(text: str) -> list[tuple[str, str]]:
    """Return each name with its value; "" where there is none. A name may come more than once."""
    return [(_unquoted(name.strip()), _unquoted(value.strip())) for name, value in _PAIR.findall(f"{text},")]


def write_pairs(pairs: Iterable[tuple[object, object]]) -> str:
    """Return the text that `read_pairs` reads as these pairs."""
    return ",".join(f"{_quoted(str(name))}={_quoted(str(value))}" for name, value in pairs)


def turned_round(pairs: Iterable[tuple[str, str]], names: Collection[str]) -> str | None:
    """Return the text of pairs that have `names` as their values and other names, the right way round; else None."""
    turned = [(value, name) for name, value in pairs]
    is_wrong = all(name in names and value not in names for name, value in turned)
    return write_pairs(turned) if is_wrong else None


def json_object(value: object, *, hint: str) -> object:
    """Parse the JSON object of a command line; keep what YAML and Python give. Raise Unfit for other text."""
    if not isinstance(value, str):
        return value
    try:
        parsed = json.loads(value)
    except ValueError:
        parsed = None
    if not isinstance(parsed, dict):
        raise Unfit("this is not a JSON object", hint=hint)
    return parsed


def _needs_quotes(text: str) -> bool:
    return "," in text or text.startswith('"') or text != text.strip()


def _quoted(text: str) -> str:
    return '"{}"'.format(text.replace('"', '""')) if _needs_quotes(text) else text


def _unquoted(text: str) -> str:
    """Return what is in the quotes; quotes that nothing needs are part of the text, such as a vote `"A"`."""
    inner = text[1:-1].replace('""', '"') if len(text) > 1 and text[0] == text[-1] == '"' else ""
    return inner if _needs_quotes(inner) else text
