"""Read JSON Lines with orjson; text of a row that is nearly JSON is repaired and counted.

Arrow's JSON reader crashes on deep nesting, and infers types from its first block.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Iterator
from typing import IO

import numpy as np
import orjson

from hubdpo.data.converters.places import json_in
from hubdpo.data.raw import rows
from hubdpo.data.raw.rows import BOM, Block, RawRow, in_blocks
from hubdpo.data.raw.text.encodings import is_utf8

Line = bytes | memoryview
PYTHON_DICT = "with the single quotes of a Python dict"
_NEWLINE = ord("\n")
_CONSTANT = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)|-?\b(?:NaN|Infinity)\b', re.DOTALL)
"""A string, which stays as it is, or a constant. A string that is not closed matches to the end of the text, so that no
byte is searched twice."""
_TYPE_NAMES = {
    list: "a list", str: "a text", int: "a number", float: "a number", bool: "true or false", type(None): "null"
}  # fmt: skip


def line_blocks(stream: IO[bytes], start: int, stop: int, most: int) -> Iterator[tuple[int, Iterator[Block]]]:
    """Yield, for the lines that begin at bytes `start` to `stop`, numbers of lines and the blocks of their rows.

    Each iterator of blocks must be used up before the next item is requested. A line of more than `most` bytes is not
    kept in memory, and becomes a broken row.
    """
    seen = 0
    for lines in _lines(stream, start, stop, most):
        first = seen + 1
        seen += len(lines)
        yield len(lines), _blocks(lines, first, most)


def _blocks(lines: list[Line | None], first: int, most: int) -> Iterator[Block]:
    size = sum(map(len, filter(None, lines)))
    try:
        values = list(map(orjson.loads, lines))  # type: ignore[arg-type]  # None is caught below
    except orjson.JSONDecodeError:
        values = []
    if values and set(map(type, values)) == {dict}:
        yield Block(range(first, first + len(values)), values, [], size)
    else:
        yield from in_blocks(_rows(lines, first, most))


def _rows(lines: list[Line | None], first: int, most: int) -> Iterator[RawRow]:
    for number, line in enumerate(lines, first):
        if line is None:
            yield too_long(number, most)
        elif line and not bytes(line).isspace():
            yield parse(number, line)


def _lines(stream: IO[bytes], start: int, stop: int, most: int) -> Iterator[list[Line | None]]:
    """Yield the lines that begin at bytes `start` to `stop`, without their ends, many at a time.

    None stands for a line of more than `most` bytes. The views are into one buffer that the next iteration overwrites:
    they are valid until then.
    """
    position = _first_line(stream, start, stop)
    if position >= stop:
        return
    position += len(BOM) if position == 0 and stream.read(len(BOM)) == BOM else 0
    stream.seek(position)
    begun: list[bytes] = []  # the blocks of a line that has not ended; none once it is too long
    size = 0  # bytes of that line
    buffer = memoryview(bytearray(rows.BLOCK))
    while count := stream.readinto(buffer):  # type: ignore[attr-defined]  # files of bytes have it
        block = buffer[:count]
        newlines = np.flatnonzero(np.frombuffer(block, np.uint8) == _NEWLINE).tolist()
        # A line belongs to the piece in which it begins: behind newlines before byte stop - 1 of the file.
        own = bisect.bisect_left(newlines, stop - 1 - position)
        position += count
        size += newlines[0] if newlines else count
        begun = [*begun, bytes(block[: newlines[0] if newlines else count])] if size <= most else []
        if not newlines:
            continue
        # An empty line gets no view, which would cost more than all else that is done for it.
        spans = zip(newlines[:own], newlines[1:], strict=False)
        complete = [block[begin + 1 : end] if end - begin > 1 else b"" for begin, end in spans]
        none_too_long = count <= most
        yield [
            b"".join(begun) if size <= most else None,
            *(complete if none_too_long else (line if len(line) <= most else None for line in complete)),
        ]
        if own < len(newlines):
            return
        size = count - newlines[-1] - 1
        begun = [bytes(block[newlines[-1] + 1 :])] if size <= most else []
    if size:
        yield [b"".join(begun) if size <= most else None]


def _first_line(stream: IO[bytes], start: int, stop: int) -> int:
    """Return the position of the first line that begins at or behind `start`, or `stop` if there is none before it."""
    if start == 0:
        return 0
    position = start - 1  # if this byte is a newline, a line begins at `start`
    stream.seek(position)
    while position < stop and (part := stream.readline(rows.BLOCK)):
        position += len(part)
        if part.endswith(b"\n"):
            return position
    return stop


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
        value = json_in(repaired) if repair else None
        if type(value) is not dict:
            quotes = f", {PYTHON_DICT}" if data.lstrip().startswith(b"{'") else ""
            return RawRow(line, None, "malformed_line", size, where_malformed(problem) + quotes)
    if type(value) is str and value.lstrip().startswith("{"):  # encoded twice
        inner = parse(line, value.encode())
        return inner._replace(repairs=(*inner.repairs, "json_in_text")) if inner.value is not None else inner
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


def _repaired(text: bytes) -> tuple[bytes, str | None]:
    """Return a text that may be JSON, and the name of the repair."""
    repair = None
    if text.rstrip().endswith(b","):
        text, repair = text.rstrip()[:-1], "trailing_comma"
    plain = without_constants(text)
    return plain, "nan_as_null" if plain != text else repair
