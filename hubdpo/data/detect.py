"""Which converter fits: decided by many rows, told with the evidence, never guessed when two fit."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from hubdpo import console
from hubdpo.data.converters import CONVERTERS, NAMES
from hubdpo.errors import DataError

MOST_ROWS = 1000
ENOUGH = 0.5
"""Share of the rows that must have a shape for it to be a candidate: real files hold some broken rows."""


def detect(rows: Iterable[dict[str, Any]]) -> str:
    """Return the name of the one converter that fits. Raise DataError when none or several do."""
    seen = 0
    hits = dict.fromkeys(CONVERTERS, 0)
    fields: dict[str, None] = {}
    for row in rows:
        seen += 1
        fields.update(dict.fromkeys(row))
        for name, converter in CONVERTERS.items():
            hits[name] += converter.detect(row)
    candidates = [name for name, count in hits.items() if seen and count >= ENOUGH * seen]
    if len(candidates) == 1:
        name = candidates[0]
        console.info(f"detected {name}: {hits[name]:,} of the first {seen:,} rows have {CONVERTERS[name].evidence}")
        return name
    names = ", ".join(f"`{key}`" for key in list(fields)[:12]) or "no fields"
    if not candidates:
        raise DataError(
            f"no converter fits; the rows have {names}",
            hint=f"--format columns --map prompt=...,chosen=...,rejected=..., or --format {'|'.join(NAMES)}",
        )
    raise DataError(
        f"several converters fit these rows: {', '.join(f'{n} ({hits[n]} of {seen})' for n in candidates)}",
        hint=" or ".join(f"--format {name}" for name in candidates),
    )
