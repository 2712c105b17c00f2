"""Validate the YAML front matter of a README, as huggingface.co does before it accepts a commit."""

from __future__ import annotations

import functools
import importlib.resources
import json
import re
from collections.abc import Iterator
from typing import Any

import yaml

from hubdpo.loopback.http.wire import JSON, shortened

FRONT_MATTER = re.compile(r"\A\s*---[ \t]*\r?\n(.*?)\r?\n?---[ \t]*(?:\r?\n|\Z)", re.DOTALL)
REPO_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
LARGEST, DEEPEST, LONGEST_NUMBER = 2**20, 32, 100
"""Longest front matter in characters, deepest nesting in it, and most digits of a number."""
NUMBER = re.compile(r"[-+]?[0-9.][-+.:_0-9A-Fa-fox]*")
LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def checked_card(text: str) -> JSON:
    """Parse the front matter of a card that is about to be committed. Raise ValueError also for an unknown licence."""
    data = card_data(text)
    given = data.get("license", [])
    if unknown := [name for name in ([given] if isinstance(given, str) else given) if name not in _licences()]:
        short = shortened(str(unknown[0]))
        raise ValueError(f'"license" must be one of the licences of the Hub, or "other", and not "{short}"')
    return data


@functools.cache
def _licences() -> frozenset[str]:
    text = (importlib.resources.files("hubdpo") / "cards/lint/hub_fields.json").read_text(encoding="utf-8")
    return frozenset(json.loads(text)["licences"])


def card_data(text: str) -> JSON:
    """Parse the front matter of a card, {} if it has none. Raise ValueError if it is invalid."""
    match = FRONT_MATTER.match(text)
    if match is None:
        return {}
    if len(match[1]) > LARGEST:
        raise ValueError(f"the metadata is longer than {LARGEST} characters")
    return _parsed(match[1])


@functools.lru_cache(maxsize=16)
def _parsed(text: str) -> JSON:
    """Parse and check; cached, because every request for repo info reads the card."""
    try:
        _measure(text)
        data = yaml.load(text, LOADER)
    except Exception as problem:  # `!!bool x`, for example, raises KeyError
        raise ValueError("YAML parse error: " + " ".join(str(problem).split())) from None
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise ValueError("the metadata should be a mapping")
    try:
        # dates become text, as the API returns them
        plain: JSON = json.loads(json.dumps(data, default=str, allow_nan=False))
    except (ValueError, TypeError, RecursionError) as problem:
        raise ValueError(f"the metadata cannot be written as JSON: {problem}") from None
    _check(plain)
    return plain


def _measure(text: str) -> None:
    """Raise ValueError for YAML that is short as text but large, deep or slow to build."""
    events: Iterator[Any] = yaml.parse(text, LOADER)
    depth = 0
    for event in events:
        line = f"line {event.start_mark.line + 2}"
        if type(event) is yaml.AliasEvent:
            raise ValueError(f"{line}: aliases are not allowed (`*{shortened(str(event.anchor))}`)")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise ValueError(f"{line}: more than {DEEPEST} levels")
        number = event.value if type(event) is yaml.ScalarEvent and event.implicit[0] else ""
        if len(number) > LONGEST_NUMBER and NUMBER.fullmatch(number):
            raise ValueError(f"{line}: a number of more than {LONGEST_NUMBER} digits")


def _check(data: JSON) -> None:
    for key in ("tags", "datasets", "language", "base_model"):
        if not isinstance(data.get(key, []), (list, str)):
            raise ValueError(f'"{key}" must be a string or an array')
    if not isinstance(data.get("license", ""), (list, str)):
        raise ValueError('"license" must be a string')
    for key in ("base_model", "datasets"):
        values = data.get(key, [])
        for value in [values] if isinstance(values, str) else values:
            if not isinstance(value, str) or not REPO_ID.fullmatch(value):
                short = shortened(str(value))
                raise ValueError(f'"{key}" with value "{short}" is not valid. Use a model or dataset id from the Hub')
    if not isinstance(data.get("model-index", []), list):
        raise ValueError('"model-index" must be an array')
