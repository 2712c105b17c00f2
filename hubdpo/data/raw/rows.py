"""Rows as they were read, one by one or many at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

BLOCK = 1 << 20
"""Bytes that are read at once."""
BOM = b"\xef\xbb\xbf"


class RawRow(NamedTuple):
    """A row and where it stands: `line` counts from 1 within the piece, lines of text or rows of a table or array.

    `value` is None for what could not be parsed; `problem` then is its reason code, and `detail` says more. `repairs`
    name what had to be put right to read it. `size` is in bytes.
    """

    line: int
    value: dict[str, Any] | None
    problem: str | None
    size: int
    detail: str = ""
    repairs: tuple[str, ...] = ()


class Block(NamedTuple):
    """Rows that were read at once: those that are objects, with their lines, and the others as RawRow.

    `size` is in bytes, of all rows together; `repaired` counts the rows that were put right, by what was done.
    """

    lines: Sequence[int]
    values: list[dict[str, Any]]
    broken: list[RawRow]
    size: int
    repaired: Counter[str] = Counter()


def in_blocks(rows: Iterable[RawRow]) -> Iterator[Block]:
    """Put rows together until they have BLOCK bytes."""
    block = _empty()
    for row in rows:
        if row.value is None:
            block.broken.append(row)
        else:
            block.lines.append(row.line)  # type: ignore[attr-defined]  # a list here
            block.values.append(row.value)
        block.repaired.update(row.repairs)
        block = block._replace(size=block.size + row.size)
        if block.size >= BLOCK:
            yield block
            block = _empty()
    if block.values or block.broken:
        yield block


def _empty() -> Block:
    return Block([], [], [], 0, Counter())
