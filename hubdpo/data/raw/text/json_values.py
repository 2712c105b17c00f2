"""A line of JSON Lines, or an item of an array, to a row: what is nearly JSON is put right and counted."""

from __future__ import annotations

import re

import orjson

from hubdpo.data.raw.rows import RawRow

_CONSTANT = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)|-?\b(?:NaN|Infinity)\b', re.DOTALL)
"""A text, which stays, and one that is not closed to the end: no place is looked at twice."""
_NAMES = {list: "a list", str: "a text", int: "a number", float: "a number", bool: "true or false", type(None): "null"}


def parse(line: int, text: bytes | memoryview) -> RawRow:
    """Return the row of a JSON text.

    NaN and Infinity, which Python writes and JSON has not, are read as null; a comma after the object is left out.
    """
    size = len(text)
    try:
        value, repair = orjson.loads(text), None
    except orjson.JSONDecodeError as problem:
        data = bytes(text)
        if not is_utf8(data):
            return RawRow(line, None, "not_utf8", size, "the text is not UTF-8")
        mended, repair = _mended(data)
        try:
            value = orjson.loads(mended) if repair else None
        except orjson.JSONDecodeError:
            repair = None
        if repair is None or type(value) is not dict:
            quotes = ", with the single quotes of a Python dict" if data.lstrip().startswith(b"{'") else ""
            return RawRow(line, None, "malformed_line", size, said(problem) + quotes)
    if type(value) is not dict:
        return RawRow(line, None, "not_an_object", size, f"{_NAMES[type(value)]}, not an object")
    return RawRow(line, value, None, size, repairs=(repair,) if repair else ())


def too_long(line: int, most: int) -> RawRow:
    """Return the row of a text above `most` bytes, which is not parsed."""
    return RawRow(line, None, "line_too_long", most, f"it has more than {most:,} bytes")


def said(problem: orjson.JSONDecodeError) -> str:
    """Say what is wrong with a JSON text, and where."""
    place = f"line {problem.lineno}, column {problem.colno}" if problem.lineno > 1 else f"column {problem.colno}"
    return f"{problem.msg} at {place}"


def without_constants(text: bytes) -> bytes:
    """Write null for NaN and Infinity."""
    if b"NaN" not in text and b"Infinity" not in text:
        return text
    return _CONSTANT.sub(lambda match: match[0] if match[0].startswith(b'"') else b"null", text)


def is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def _mended(text: bytes) -> tuple[bytes, str | None]:
    """Return a text that may be JSON, and what was put right."""
    repair = None
    if text.rstrip().endswith(b","):
        text, repair = text.rstrip()[:-1], "trailing_comma"
    plain = without_constants(text)
    return plain, "nan_as_null" if plain is not text and plain != text else repair
