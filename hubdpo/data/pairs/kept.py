"""The columns that `--keep` takes along, as text."""

from __future__ import annotations

from typing import Any

import orjson

from hubdpo.data.pairs.example import Rejection

Kept = list[str | bytes | None]
"""A column that is kept: texts, or UTF-8, some of them missing."""


def kept_of(value: dict[str, Any], names: list[str]) -> list[str | None]:
    """Return what one row has in these columns. Raise Rejection when one of them cannot be kept."""
    return [_text(value.get(name)) for name in names]


def kept_of_many(values: list[dict[str, Any]], names: list[str]) -> list[Kept] | None:
    """Return the columns of many rows, or None when one of them cannot be kept."""
    columns: list[list[Any]] = [[value.get(name) for value in values] for name in names]
    for place, some in enumerate(columns):
        kinds = set(map(type, some))
        try:
            if kinds <= {int, list}:
                columns[place] = list(map(orjson.dumps, some))
            elif kinds != {str}:
                columns[place] = list(map(_text, some))
        except (Rejection, TypeError):
            return None
    return columns


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    try:
        return str(orjson.dumps(value, default=str), "utf-8")
    except TypeError:
        raise Rejection("wrong_type") from None
