"""The checks that the Hub makes of a README's YAML before it takes a commit."""

from __future__ import annotations

import json
import re
from typing import Any

import yaml

FRONT_MATTER = re.compile(r"\A\s*---[ \t]*\r?\n(.*?)\r?\n?---[ \t]*(?:\r?\n|\Z)", re.DOTALL)
REPO_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")


def card_data(text: str) -> dict[str, Any]:
    """Return the YAML in front of a card, empty when there is none. Raise ValueError, in words, when it is refused."""
    match = FRONT_MATTER.match(text)
    if match is None:
        return {}
    try:
        data = yaml.safe_load(match[1])
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as problem:
        raise ValueError("YAML parse error: " + " ".join(str(problem).split())) from None
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise ValueError("the metadata should be a mapping")
    data = _as_json(data)
    _check(data)
    return data


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
                raise ValueError(f'"{key}" with value "{value}" is not valid. Use a model or dataset id from the Hub')
    if not isinstance(data.get("model-index", []), list):
        raise ValueError('"model-index" must be an array')
