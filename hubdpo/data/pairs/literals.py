"""Parse the text of a value, as JSON, Python, NumPy or pandas writes it."""

from __future__ import annotations

import ast
import re
import warnings
from typing import Any

import orjson

MOST_PYTHON = 1 << 20
"""Characters of the longest Python literal that is parsed; JSON is limited only by the size of the row."""
ARRAY = r"(?:(?:np\.|numpy\.)?array\(\s*)?"
DTYPE = r""",\s*dtype=[\w.'"<>]+(?=\s*\))"""
_STRING_TO_END = r"""('(?:[^'\\]|\\.)*+(?:'|\\?\Z)|"(?:[^"\\]|\\.)*+(?:"|\\?\Z))"""
_PRINTED = re.compile(rf"{_STRING_TO_END}|(\}}\s+\{{)|(\b(?:np\.|numpy\.)?array\()|{DTYPE}", re.DOTALL)
"""A string (1), two items without a comma (2), the opening of an array (3), or its dtype.

A string that is not closed matches to the end of the text, so that no character is searched twice.
"""


def value_in(text: str) -> Any:
    """Return the JSON value that a text holds as JSON or as a Python literal, or None.

    A literal with no JSON form, such as one with half a surrogate pair, counts as none: it could not be written.
    """
    text = text.strip()
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        pass
    if len(text) > MOST_PYTHON:
        return None
    for attempt in (text, _PRINTED.sub(_as_literal, text)):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about invalid escapes
                return orjson.loads(orjson.dumps(ast.literal_eval(attempt), option=orjson.OPT_NON_STR_KEYS))
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            continue
    return None


def _as_literal(match: re.Match[str]) -> str:
    """Turn what NumPy prints, arrays and items without commas, into a Python literal."""
    return match[1] or (match[2] and "}, {") or (match[3] and "(") or ""
