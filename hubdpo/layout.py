"""Lay out tables as lines in which no cell is ever cut, folded or broken."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rich.cells import cell_len

GAP = 2
"""Columns between two cells, and before the cells of a row that has lines of its own."""
_NUMBER = re.compile(r"[-+]?\d[\d,]*(\.\d+)?(e[-+]?\d+)?%?|-?")


def table_lines(columns: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """Return the heading of a table, "" if no row stands below it, and its lines.

    The longest rows that do not fit into `width` columns are taken apart: each of their cells has a line of its own,
    which may be longer than `width`. Texts are aligned left, columns of numbers right.
    """
    beside = set(range(len(rows)))
    while beside and sum(_widths(columns, [rows[n] for n in beside])) + GAP * (len(columns) - 1) > width:
        beside.remove(max(beside, key=lambda n: (sum(map(cell_len, rows[n])), n)))
    widths = _widths(columns, [rows[n] for n in beside])
    is_number = [
        column > 0 and all(_NUMBER.fullmatch(rows[n][column]) for n in beside) for column in range(len(columns))
    ]

    def line(cells: Sequence[str]) -> str:
        padded = (
            " " * (size - cell_len(cell)) + cell if right else cell + " " * (size - cell_len(cell))
            for cell, size, right in zip(cells, widths, is_number, strict=True)
        )
        return (" " * GAP).join(padded).rstrip()

    lines = [line(columns) if beside or not rows else ""]
    for number, row in enumerate(rows):
        lines += [line(row)] if number in beside else _apart(columns, row)
    return lines


def _widths(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(cell_len, cells)) for cells in zip(columns, *rows, strict=True)]


def _apart(columns: Sequence[str], row: Sequence[str]) -> list[str]:
    """Return the lines of a row with one cell each; of more than two columns, each has the name of its column."""
    named = max(map(cell_len, columns[1:])) + GAP if len(columns) > 2 else 0
    cells = [
        f"{' ' * GAP}{name + ' ' * (named - cell_len(name)) if named else ''}{cell}"
        for name, cell in zip(columns[1:], row[1:], strict=True)
        if cell
    ]
    return [row[0], *cells]
