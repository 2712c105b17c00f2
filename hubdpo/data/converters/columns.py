"""`columns`: any three columns, named by `--map prompt=...,chosen=...,rejected=...`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from hubdpo.data.columns import Columns
from hubdpo.data.converters.preference import from_values, many_from_texts
from hubdpo.data.preference import COLUMNS, PreferenceExample
from hubdpo.errors import ConfigError

HINT = "--map prompt=question,chosen=good,rejected=bad"


def parse_map(text: str) -> dict[str, str]:
    """Read `prompt=a,chosen=b,rejected=c`. Raise ConfigError unless each of the three is named once."""
    pairs = [part.partition("=") for part in text.split(",")]
    names = [name.strip() for name, _, _ in pairs]
    if sorted(names) != sorted(COLUMNS) or not all(column.strip() for _, _, column in pairs):
        raise ConfigError(f"`--map` must name prompt, chosen and rejected once each: {text}", hint=HINT)
    return {name.strip(): column.strip() for name, _, column in pairs}


def converter(mapping: dict[str, str]) -> Callable[[dict[str, Any]], PreferenceExample]:
    """Return a converter, one that pickles, that reads text or messages from the columns of `mapping`."""
    return partial(convert, mapping=mapping)


def converter_of_many(mapping: dict[str, str]) -> Callable[[list[dict[str, Any]]], Columns | None]:
    """Return the same for many rows at once."""
    return partial(convert_many, mapping=mapping)


def convert(row: dict[str, Any], mapping: dict[str, str]) -> PreferenceExample:
    return from_values(*(row.get(mapping[name]) for name in COLUMNS))


def convert_many(rows: list[dict[str, Any]], mapping: dict[str, str]) -> Columns | None:
    return many_from_texts(*([row.get(mapping[name]) for row in rows] for name in COLUMNS))
