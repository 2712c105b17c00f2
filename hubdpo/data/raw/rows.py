"""Raw rows, one by one or in blocks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from hubdpo.data.pairs.example import Row
from hubdpo.errors import DataError

BLOCK = 1 << 20
"""Bytes that are read at once."""
BOM = b"\xef\xbb\xbf"


class RawRow(NamedTuple):
    """A row, or the reason why it could not be read."""

    line: int
    """Line of text, or index in a table or array, counted from 1 within the piece."""
    value: Row | None
    problem: str | None
    """Reason code if `value` is None."""
    size: int
    detail: str = ""
    repairs: tuple[str, ...] = ()


class Block(NamedTuple):
    """Rows that were read together."""

    lines: Sequence[int]
    values: list[Row]
    """The rows that could be read; `lines` has the line of each."""
    broken: list[RawRow]
    size: int
    repaired: Counter[str] = Counter()
    """Rows that were repaired, by repair."""


def in_blocks(rows: Iterable[RawRow]) -> Iterator[Block]:
    """Collect rows in blocks of at least BLOCK bytes."""
    pending: list[RawRow] = []
    size = 0
    for row in rows:
        pending.append(row)
        size += row.size
        if size >= BLOCK:
            yield _block(pending, size)
            pending, size = [], 0
    if pending:
        yield _block(pending, size)


def check_column_names(columns: Iterable[str], name: str) -> None:
    """Raise DataError if two columns of the file or table `name` have the same name, of which a row keeps one."""
    if twice := [column for column, count in Counter(columns).items() if count > 1 and column]:
        raise DataError(f"there are two columns `{twice[0]}` in {name}", hint="give each column a name of its own")


def _block(rows: list[RawRow], size: int) -> Block:
    lines = [row.line for row in rows if row.value is not None]
    values = [row.value for row in rows if row.value is not None]
    broken = [row for row in rows if row.value is None]
    return Block(lines, values, broken, size, Counter(repair for row in rows for repair in row.repairs))
