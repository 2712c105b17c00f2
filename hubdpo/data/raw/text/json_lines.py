"""JSON Lines: a row is parsed with orjson before Arrow sees it, for Arrow's own JSON reader crashes on deep nesting and
guesses types from the first block."""

from __future__ import annotations

import bisect
from collections.abc import Iterator
from typing import IO

import numpy as np
import orjson

from hubdpo.data.raw import rows
from hubdpo.data.raw.rows import BOM, Block, RawRow, in_blocks
from hubdpo.data.raw.text.json_values import parse, too_long

Line = bytes | memoryview
_END = ord("\n")


def line_blocks(stream: IO[bytes], start: int, stop: int, most: int) -> Iterator[tuple[int, Iterator[Block]]]:
    """Give how many lines were read, and the blocks of their rows, for the lines that begin from `start` to `stop`.

    A line above `most` bytes is not kept in memory, and is a loss.
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
    """Parse lines each for itself, `first` the number of the first; None is one that is too long."""
    for number, line in enumerate(lines, first):
        if line is None:
            yield too_long(number, most)
        elif line and not bytes(line).isspace():
            yield parse(number, line)


def _lines(stream: IO[bytes], start: int, stop: int, most: int) -> Iterator[list[Line | None]]:
    """Give the lines that begin from `start` to `stop`, without their ends, many at a time; None for one above `most`.

    What was given is written over when more is asked for.
    """
    at = _first_line(stream, start, stop)
    if at >= stop:
        return
    at += len(BOM) if at == 0 and stream.read(len(BOM)) == BOM else 0
    stream.seek(at)
    begun: list[bytes] = []  # blocks of the line that has not ended; none once it is too long
    size = 0
    buffer = memoryview(bytearray(rows.BLOCK))
    while count := stream.readinto(buffer):  # type: ignore[attr-defined]  # files of bytes have it
        block = buffer[:count]
        ends = np.flatnonzero(np.frombuffer(block, np.uint8) == _END).tolist()
        # a line is one of this piece when it begins in it
        own = bisect.bisect_left(ends, stop - 1 - at)
        at += count
        size += ends[0] if ends else count
        begun = [*begun, bytes(block[: ends[0] if ends else count])] if size <= most else []
        if not ends:
            continue
        # a view costs more than all else that is done for an empty line
        spans = zip(ends[:own], ends[1:], strict=False)
        more = [block[begin + 1 : end] if end - begin > 1 else b"" for begin, end in spans]
        short = count <= most
        yield [
            b"".join(begun) if size <= most else None,
            *(more if short else (line if len(line) <= most else None for line in more)),
        ]
        if own < len(ends):
            return
        size = count - ends[-1] - 1
        begun = [bytes(block[ends[-1] + 1 :])] if size <= most else []
    if size:
        yield [b"".join(begun) if size <= most else None]


def _first_line(stream: IO[bytes], start: int, stop: int) -> int:
    """Return where the first line from `start` on begins, or `stop`; one that began before is not counted."""
    if start == 0:
        return 0
    at = start - 1
    stream.seek(at)
    while at < stop and (part := stream.readline(rows.BLOCK)):
        at += len(part)
        if part.endswith(b"\n"):
            return at
    return stop
