"""Refuse a `--score-field` that no row has, before any row is written, and name the scores that the rows have."""

from __future__ import annotations

import shlex
from collections.abc import Iterable

from hubdpo.data.converters.formats.scored import LISTS
from hubdpo.data.converters.pairing import score_of
from hubdpo.data.detection.suggest import near_name
from hubdpo.data.pairs.example import Rejection, Row
from hubdpo.data.pairs.messages import first_of
from hubdpo.errors import DataError

MOST_NAMES = 12


def check_score_field(field: str, rows: Iterable[Row]) -> DataError | None:
    """Return the error to raise if no answer, and no row, has this member."""
    scores: dict[str, None] = {}
    seen = False
    for row in rows:
        seen = True
        answers = first_of(row, LISTS.answers)
        items = [item for item in answers if isinstance(item, dict)] if isinstance(answers, list) else []
        for item in items or [row]:
            if field in item:
                return None
            scores.update(dict.fromkeys(name for name, value in item.items() if _is_score(value)))
    if not seen:
        return None
    names = f"; their scores are {', '.join(f'`{name}`' for name in list(scores)[:MOST_NAMES])}" if scores else ""
    near = near_name(field, scores) or (next(iter(scores)) if len(scores) == 1 else None)
    return DataError(
        f"no answer has a member `{field}`{names}",
        hint=f"--score-field {shlex.quote(near or '...')}" if scores else "leave `--score-field` out",
    )


def _is_score(value: object) -> bool:
    """Return whether a value is a number, as text or not, or a list of numbers."""
    try:
        scores = [score_of(item) for item in (value if isinstance(value, list) else [value])]
    except Rejection:
        return False
    return any(score is not None for score in scores)
