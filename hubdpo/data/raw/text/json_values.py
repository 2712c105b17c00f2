"""Parse the JSON text of one row; text that is nearly JSON is repaired and counted."""

from __future__ import annotations

import re

import orjson

from hubdpo.data.raw.rows import RawRow

_CONSTANT = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)|-?\b(?:NaN|Infinity)\b', re.DOTALL)
"""A string, which stays as it is, or a constant. A string that is not closed matches to the end of the text, so that no
byte is searched twice."""
_TYPE_NAMES = {
    list: "a list", str: "a text", int: "a number", float: "a number", bool: "true or false", type(None): "null"
}  # fmt: skip


def parse(line: int, text: bytes | memoryview) -> RawRow:
    """Return the row of a JSON text.

    NaN and Infinity, which Python writes but JSON does not have, become null; a comma after the object is dropped.
    """
    size = len(text)
    repair = None
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as problem:
        data = bytes(text)
        if not is_utf8(data):
            return RawRow(line, None, "not_utf8", size, "the text is not UTF-8")
        repaired, repair = _repaired(data)
        try:
            value = orjson.loads(repaired) if repair else None
        except orjson.JSONDecodeError:
            value = None
        if type(value) is not dict:
            quotes = ", with the single quotes of a Python dict" if data.lstrip().startswith(b"{'") else ""
            return RawRow(line, None, "malformed_line", size, where_malformed(problem) + quotes)
    if type(value) is not dict:
        return RawRow(line, None, "not_an_object", size, f"{_TYPE_NAMES[type(value)]}, not an object")
    return RawRow(line, value, None, size, repairs=(repair,) if repair else ())


def too_long(line: int, most: int) -> RawRow:
    """Return the broken row of a text of more than `most` bytes, which is not parsed."""
    return RawRow(line, None, "line_too_long", most, f"it has more than {most:,} bytes")


def where_malformed(problem: orjson.JSONDecodeError) -> str:
    """Return what is wrong with a JSON text, and where."""
    place = f"line {problem.lineno}, column {problem.colno}" if problem.lineno > 1 else f"column {problem.colno}"
    return f"{problem.msg} at {place}"


def without_constants(text: bytes) -> bytes:
    """Replace NaN and Infinity by null."""
    if b"NaN" not in text and b"Infinity" not in text:
        return text
    return _CONSTANT.sub(lambda match: match[0] if match[0].startswith(b'"') else b"null", text)


def is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def _repaired(text: bytes) -> tuple[bytes, str | None]:
    """Return a text that may be JSON, and the name of the repair."""
    repair = None
    if text.rstrip().endswith(b","):
        text, repair = text.rstrip()[:-1], "trailing_comma"
    plain = without_constants(text)
    return plain, "nan_as_null" if plain != text else repair
