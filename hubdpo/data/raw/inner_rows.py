"""Rows that are the items of a list inside each row, or inside the one object of a JSON file: `data.items`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from hubdpo.data.converters.places import opened
from hubdpo.data.pairs.example import Row
from hubdpo.data.raw.rows import Block, RawRow

NO_LIST = "no_list"
"""Reason of a row without a list, or with an empty one, at the path."""
Keys = list[str | int]
_KINDS = {type(None): "missing", str: "a text", dict: "an object", list: "an empty list"}


def inner_rows(blocks: Iterator[Block], path: str, *, one_object: bool) -> Iterator[Block]:
    """Yield blocks of the items of the list at a path, each beside the other columns of its row.

    A member of an item takes precedence over a column of the same name; an item that is no object stands in place of
    the list. A row without a list is broken. With `one_object` the row is the whole file: then only its texts and
    numbers stand beside the items, which are counted from 1.
    """
    for block in blocks:
        lines: list[int] = []
        values: list[Row] = []
        broken = list(block.broken)
        for line, row in zip(block.lines, block.values, strict=True):
            of_row = items_in(row, path, one_object=one_object)
            if of_row is None:
                items = find_path(row, path)[1]
                detail = f"`{path}` is {_KINDS.get(type(items), 'no list')}"
                broken.append(RawRow(line, None, NO_LIST, block.size // len(block.values), detail))
                continue
            values += of_row
            lines += range(1, len(of_row) + 1) if one_object else [line] * len(of_row)
        yield block._replace(lines=lines, values=values, broken=broken)


def items_in(row: Row, path: str, *, one_object: bool = False) -> list[Row] | None:
    """Return the items of the list at a path as rows, or None if there is no list, or an empty one."""
    keys, items = find_path(row, path)
    if not isinstance(items, list) or not items:
        return None
    others = _replaced(row, keys)
    if one_object:
        others = {name: value for name, value in others.items() if not isinstance(value, (dict, list))}
    return [{**others, **item} if isinstance(item, dict) else _replaced(row, keys, [item]) for item in items]


def find_path(value: Any, path: str) -> tuple[Keys, Any]:
    """Return the keys that a dotted path means and the value they lead to, or ([], None).

    A key may hold dots itself, a number leads into a list, and JSON in a text is parsed.
    """
    value = opened(value)
    head, _, rest = path.partition(".")
    steps: list[tuple[str | int, str]] = []
    if isinstance(value, dict):
        names = (name for name in value if isinstance(name, str) and f"{path}.".startswith(f"{name}."))
        steps = [(name, path[len(name) + 1 :]) for name in sorted(names, key=len, reverse=True)]
    elif isinstance(value, list) and head.isdecimal() and int(head) < len(value):
        steps = [(int(head), rest)]
    for key, more in steps:
        if not more:
            return [key], opened(value[key])
        keys, found = find_path(value[key], more)
        if keys:
            return [key, *keys], found
    return [], None


def _replaced(value: Any, keys: Keys, new: Sequence[Any] = ()) -> Any:
    """Return a copy of a value with the one item of `new` at these keys, or with nothing there."""
    copy = opened(value).copy()
    key, *rest = keys
    if rest:
        copy[key] = _replaced(copy[key], rest, new)
    elif new:
        copy[key] = new[0]
    else:
        copy.pop(key)
    return copy
