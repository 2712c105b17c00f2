"""Rows of a table that is one JSON object: written by columns or by keys, as pandas' `to_json` does."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from hubdpo.data.converters import CONVERTERS, Row

SOME = 12
"""Members that are looked at to tell rows by key."""
KEY = "key"
"""Column for the keys, where each row has one."""
SPLIT = ("columns", "index", "data")
WRITTEN_BY = {"list": "columns", "columns": "columns", "split": "rows", "index": "keys"}
"""Ways to write a table, in the words of pandas' `to_dict` and `to_json`, and what each is told as."""


def orient_of(value: Row, columns: Collection[str] = ()) -> str | None:
    """Return how an object writes a table, or None if it is none. `columns` are those of a described row."""
    members = list(value.values())
    if value.keys() == {*SPLIT} and all(isinstance(member, list) for member in members):
        return "split"
    if len(members) < 2:
        return None
    if all(isinstance(member, list) and member and not isinstance(member[0], dict) for member in members):
        return "list" if len({len(member) for member in members}) == 1 else None
    if not all(isinstance(member, dict) for member in members):
        return None
    if members[0] and all(key.isdigit() for key in members[0]) and all(m.keys() == members[0].keys() for m in members):
        return "columns"
    found = sum(is_row(member, columns) for member in members[:SOME])
    return "index" if 2 * found > len(members[:SOME]) else None


def table_rows(value: Row, orient: str) -> list[Any]:
    """Return the rows of a table; one that is no object has other values than the table has columns."""
    if orient == "index":
        return [{KEY: key, **row} for key, row in value.items()]
    if orient == "split":
        names = [str(name) for name in value["columns"]]
        return [dict(zip(names, row, strict=False)) if _fits(row, names) else row for row in value["data"]]
    columns = [list(column.values()) if orient == "columns" else column for column in value.values()]
    return [dict(zip(value, row, strict=True)) for row in zip(*columns, strict=True)]


def is_row(value: Row, columns: Collection[str]) -> bool:
    """Return whether an object has all columns of a described row, or is detected as one."""
    described = bool(columns) and value.keys() >= {*columns}
    return described or any(converter.detect(value) for converter in CONVERTERS.values())


def _fits(row: object, names: list[str]) -> bool:
    return isinstance(row, list) and len(row) == len(names)
