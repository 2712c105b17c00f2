"""`rejected.jsonl`: where each row that was left out stands, and why; its text stays in the source."""

from __future__ import annotations

from typing import Any

import orjson

from hubdpo.config import PrepareConfig
from hubdpo.secrets import cleaned, find_secrets, redact

MOST_FIELDS = 20
LONGEST_NAME = 80
POLICIES = {"tie": "on_tie", "over_length": "over_length", "contradiction": "on_conflict"}
"""Reasons that a policy can turn from a loss into an error."""


def is_error(reason: str, config: PrepareConfig) -> bool:
    """Tell whether a row may not be dropped for this reason."""
    policy = POLICIES.get(reason)
    return config.strict or (policy is not None and getattr(config, policy) == "error")


def loss_line(line: int, reason: str, value: dict[str, Any] | None, *, scan: bool = False) -> bytes:
    """Write one loss, its line still counted within the piece, with the shape of the row and none of its text."""
    fields = {_name(str(key), scan): _shape(field) for key, field in list((value or {}).items())[:MOST_FIELDS]}
    return orjson.dumps({"line": line, "reason": reason, "fields": fields}) + b"\n"


def _name(name: str, scan: bool) -> str:
    return (redact(name, find_secrets(name)) if scan else cleaned(name))[:LONGEST_NAME]


def _shape(value: Any) -> str:
    size = f" of {len(value)}" if isinstance(value, (str, list, dict)) else ""
    return f"{type(value).__name__}{size}"
