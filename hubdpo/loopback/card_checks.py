"""The checks that the Hub makes of a README's YAML before it takes a commit."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator
from typing import Any

import yaml

from hubdpo.loopback.wire import shortened

FRONT_MATTER = re.compile(r"\A\s*---[ \t]*\r?\n(.*?)\r?\n?---[ \t]*(?:\r?\n|\Z)", re.DOTALL)
REPO_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
LARGEST, DEEPEST, LONGEST_NUMBER = 2**20, 32, 100
"""Most characters of the YAML before a card, most levels in it, and most digits of what looks like a number."""
NUMBER = re.compile(r"[-+]?[0-9.][-+.:_0-9A-Fa-fox]*")
LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def card_data(text: str) -> dict[str, Any]:
    """Return the YAML in front of a card, empty when there is none. Raise ValueError, in words, when it is refused."""
    match = FRONT_MATTER.match(text)
    if match is None:
        return {}
    if len(match[1]) > LARGEST:
        raise ValueError(f"the metadata is longer than {LARGEST} characters")
    return _parsed(match[1])


@functools.lru_cache(maxsize=16)
def _parsed(text: str) -> dict[str, Any]:
    """Parse, check and keep the last few: a card is shown with every look at its repo."""
    try:
        _measure(text)
        data = yaml.load(text, LOADER)
    except Exception as problem:  # a tag on a wrong value (`!!bool x`): KeyError, IndexError, AttributeError
        raise ValueError("YAML parse error: " + " ".join(str(problem).split())) from None
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise ValueError("the metadata should be a mapping")
    data = _as_json(data)
    _check(data)
    return data


def _measure(text: str) -> None:
    """Raise ValueError for what is small as text and large, deep or slow once it is built."""
    events: Iterator[Any] = yaml.parse(text, LOADER)
    depth = 0
    for event in events:
        line = f"line {event.start_mark.line + 2}"
        if type(event) is yaml.AliasEvent:
            raise ValueError(f"{line}: an alias (`*{shortened(str(event.anchor))}`) is not taken here")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise ValueError(f"{line}: more than {DEEPEST} levels")
        if type(event) is yaml.ScalarEvent and event.implicit[0] and _is_long_number(event.value):
            raise ValueError(f"{line}: a number of more than {LONGEST_NUMBER} digits")


def _is_long_number(text: str) -> bool:
    return len(text) > LONGEST_NUMBER and NUMBER.fullmatch(text) is not None


def _as_json(data: dict[str, Any]) -> dict[str, Any]:
    """Return the metadata as the API shows it: a date, for one, as text."""
    try:
        shown: dict[str, Any] = json.loads(json.dumps(data, default=str, allow_nan=False))
    except (ValueError, TypeError, RecursionError) as problem:
        raise ValueError(f"the metadata cannot be shown as JSON: {problem}") from None
    return shown


def _check(data: dict[str, Any]) -> None:
    for key in ("tags", "datasets", "language", "base_model"):
        if not isinstance(data.get(key, []), (list, str)):
            raise ValueError(f'"{key}" must be a string or an array')
    if not isinstance(data.get("license", ""), (list, str)):
        raise ValueError('"license" must be a string')
    for key in ("base_model", "datasets"):
        values = data.get(key, [])
        for value in [values] if isinstance(values, str) else values:
            if not isinstance(value, str) or not REPO_ID.fullmatch(value):
                shown = shortened(str(value))
                raise ValueError(f'"{key}" with value "{shown}" is not valid. Use a model or dataset id from the Hub')
    if not isinstance(data.get("model-index", []), list):
        raise ValueError('"model-index" must be an array')
