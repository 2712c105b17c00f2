"""`columns`: any three columns, named by `--map prompt=...,chosen=...,rejected=...`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hubdpo.data.converters.preference import from_values
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
    """Return a converter that reads text or messages from the columns of `mapping`."""

    def convert(row: dict[str, Any]) -> PreferenceExample:
        return from_values(*(row.get(mapping[name]) for name in COLUMNS))

    return convert
