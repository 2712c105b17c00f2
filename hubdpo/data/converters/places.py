"""Places in a row, as descriptions name them: `prompt`, `question.text`, `turns.0.value`, `completions[].response`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import orjson

from hubdpo.data.converters.cells import BEGINS, parse_messages_cell
from hubdpo.data.pairs.example import Row

EACH = "[]"
_INDEX = re.compile(r"-?\d+")


@dataclass(frozen=True)
class Place:
    """A column, or a path into its objects and lists. Text that holds JSON on the way is parsed.

    A dot leads to the member of an object, or to the item of a list by its number (from 0, or -1 for the last); `[]`
    leads to all items of a list. A column whose name is the whole path is read as such.
    """

    path: str
    steps: tuple[str, ...]
    """The path split at its dots, each `[]` by itself; one step for a plain column."""

    @classmethod
    def of(cls, path: str) -> Place:
        return cls(path, tuple(filter(None, path.replace(EACH, f".{EACH}").split("."))) or (path,))

    @property
    def column(self) -> str:
        """The column that the path begins with."""
        return self.steps[0]

    @property
    def name(self) -> str:
        """The last name in the path, by which a vote may call an answer."""
        return next((step for step in reversed(self.steps) if step != EACH), self.path)

    @property
    def read(self) -> str:
        """The column, with its member if the path leads into an object: an item of `Reads`."""
        member = self.steps[1] if len(self.steps) > 1 else EACH
        return self.column if member == EACH or _INDEX.fullmatch(member) else f"{self.column}.{member}"

    @property
    def is_column(self) -> bool:
        return len(self.steps) == 1

    def value(self, row: Row) -> Any:
        """Return the value at this place, or None if the row has none."""
        if self.path in row:
            return row[self.path]
        if len(self.steps) == 1:
            return None
        value = self.walked(row)
        return parse_messages_cell(value) if isinstance(value, str) and BEGINS.match(value) else value

    def walked(self, row: Row) -> Any:
        """Return what the steps lead to, messages in a text not parsed."""
        return _walk(row, self.steps)


def sides_of(one: Place, other: Place) -> tuple[str, str]:
    """Return the names by which a vote may call two answers: `a` and `b` for `a.text` and `b.text`."""
    if one.name != other.name or len(one.steps) != len(other.steps):
        return one.name, other.name
    differ = [pair for pair in zip(one.steps, other.steps, strict=True) if pair[0] != pair[1]]
    return differ[-1] if differ else (one.name, other.name)


def _walk(value: Any, steps: tuple[str, ...]) -> Any:
    for number, step in enumerate(steps):
        if isinstance(value, str):
            value = json_in(value)
        if step == EACH:
            rest = steps[number + 1 :]
            return [_walk(item, rest) for item in value] if isinstance(value, list) else None
        if isinstance(value, dict):
            value = value.get(step)
        elif isinstance(value, list) and _INDEX.fullmatch(step):
            index = int(step)
            value = value[index] if -len(value) <= index < len(value) else None
        else:
            return None
    return value


def json_in(text: str | bytes) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return None


def opened(value: Any) -> Any:
    """Return the list or object that a text holds as JSON; any other value as it is."""
    if not isinstance(value, str) or not value.lstrip().startswith(("[", "{")):
        return value
    held = json_in(value)
    return value if held is None else held


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def listed(value: Any) -> Any:
    """Return the list that a text holds as JSON; any other value as it is."""
    held = opened(value)
    return held if isinstance(held, list) else value
