"""The options to paste for two answers and a vote whose meaning no published schema fixes, filled in from the rows."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from hubdpo.data.converters import Convert
from hubdpo.data.converters.votes import VOTES, is_tie, text_of_value
from hubdpo.data.preference import Rejection
from hubdpo.errors import DataError

Row = dict[str, Any]
MOST_VALUES = 8


def unknown_votes(convert: Convert, rows: Iterable[Row], vote: str | None = None) -> DataError | None:
    """Return the error to raise when no row's vote is understood, None when one is or the rows have other faults."""
    values: Counter[str] = Counter()
    column = vote
    for row in rows:
        try:
            convert(row)
        except Rejection as rejection:
            if rejection.reason != "unknown_label":
                continue
            column = vote or next((name for name in VOTES if row.get(name) is not None), None)
            if column is not None:
                values[text_of_value(row[column])] += 1
            continue
        return None
    if column is None or not values:
        return None
    return DataError(
        f"nothing says which answer a vote of `{column}` prefers: its values are {_listed(values)}",
        hint=f"{guess(list(values))} {labels_for(list(values))}",
    )


def labels_for(values: Sequence[str]) -> str:
    """Return `--labels` with these values of a vote; which is which is a guess for the user to check."""
    first, second, ties = _sides(values)
    text = ",".join([f"first={first}", f"second={second}", *(f"tie={tie}" for tie in ties)])
    return f"--labels {shlex.quote(text)}"


def guess(values: Sequence[str]) -> str:
    """Say what `labels_for` takes the values to mean: pasted unread, the wrong way round, it inverts every pair."""
    first, second, _ = _sides(values)
    return f"look it up: if `{first}` means that the first answer is better, and `{second}` the second,"


def _sides(values: Sequence[str]) -> tuple[str, str, list[str]]:
    ties = [value for value in values if is_tie(value.strip().lower())]
    sides = sorted(value for value in values if value not in ties)
    if len(sides) == 3 and sides[0] in ("0", "0.0"):
        ties, sides = [sides[0], *ties], sides[1:]
    first, second = (*sides, "FIRST", "SECOND")[:2] if len(sides) != 1 else (sides[0], "SECOND")
    return first, second, ties


def _listed(values: Counter[str]) -> str:
    more = f" and {len(values) - MOST_VALUES:,} more" if len(values) > MOST_VALUES else ""
    return ", ".join(f"`{value[:40]}`" for value in sorted(values)[:MOST_VALUES]) + more
