"""Options whose value is a JSON object on the command line."""

from __future__ import annotations

import json

from hubdpo.config.base import Unfit


def json_object(value: object, *, hint: str) -> object:
    """Parse the JSON object of a command line; keep what YAML and Python give. Raise Unfit for other text."""
    if not isinstance(value, str):
        return value
    try:
        parsed = json.loads(value)
    except ValueError:
        parsed = None
    if not isinstance(parsed, dict):
        raise Unfit("this is not a JSON object", hint=hint)
    return parsed
