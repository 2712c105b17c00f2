"""Rows of a table that is one JSON object: written by columns or by keys, as pandas' `to_json` does."""

from __future__ import annotations

from collections.abc import Collection
from enum import StrEnum
from typing import Any

from hubdpo.data.converters import CONVERTERS, Row

SOME = 12
"""Members that are looked at to tell rows by key."""
KEY = "key"
"""Column for the keys, where each row has one."""
SPLIT = ("columns", "index", "data")


class Orient(StrEnum):
    """How a table is written, in the words of `pandas.DataFrame.to_json`."""

    LIST = "list"
    """A list for each column."""
    COLUMNS = "columns"
    """An object for each column, with the numbers of the rows as keys."""
    SPLIT = "split"
    """The names of the columns, and a list for each row."""
    INDEX = "index"
    """An object for each row."""

    @property
    def how(self) -> str:
        return "keys" if self is Orient.INDEX else "rows" if self is Orient.SPLIT else "columns"


def orient_of(value: Row, columns: Collection[str] = ()) -> Orient | None:
    """Return how an object writes a table, or None if it is none. `columns` are those of a described row."""
    members = list(value.values())
    if value.keys() == {*SPLIT} and all(isinstance(member, list) for member in members):
        return Orient.SPLIT
    if len(members) < 2:
        return None
    if all(isinstance(member, list) and member and not isinstance(member[0], dict) for member in members):
        return Orient.LIST if len({len(member) for member in members}) == 1 else None
    if not all(isinstance(member, dict) for member in members):
        return None
    if members[0] and all(key.isdigit() for key in members[0]) and all(m.keys() == members[0].keys() for m in members):
        return Orient.COLUMNS
    found = sum(is_row(member, columns) for member in members[:SOME])
    return Orient.INDEX if 2 * found > len(members[:SOME]) else None


def table_rows(value: Row, orient: str) -> list[Any]:
    """Return the rows of a table; one that is no object has other values than the table has columns."""
    if orient == Orient.INDEX:
        return [{KEY: key, **row} for key, row in value.items()]
    if orient == Orient.SPLIT:
        names = [str(name) for name in value["columns"]]
        return [dict(zip(names, row, strict=False)) if _fits(row, names) else row for row in value["data"]]
    columns = [list(column.values()) if orient == Orient.COLUMNS else column for column in value.values()]
    return [dict(zip(value, row, strict=True)) for row in zip(*columns, strict=True)]


def is_row(value: Row, columns: Collection[str]) -> bool:
    """Return whether an object has all columns of a described row, or is detected as one."""
    described = bool(columns) and value.keys() >= {*columns}
    return described or any(converter.detect(value) for converter in CONVERTERS.values())


def _fits(row: object, names: list[str]) -> bool:
    return isinstance(row, list) and len(row) == len(names)
