"""`--score-field` that names nothing: refused before any row is written, with the scores that the rows have."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from typing import Any

from hubdpo.data.converters.formats.scored import LISTS
from hubdpo.data.converters.pairing import score_of
from hubdpo.data.detection.suggest import near_name
from hubdpo.data.pairs.example import Rejection
from hubdpo.data.pairs.messages import first_of
from hubdpo.errors import DataError

MOST_NAMES = 12


def check_score_field(field: str, rows: Iterable[dict[str, Any]]) -> DataError | None:
    """Return the error to raise where no answer, and no row, has a member of this name; None where one has."""
    found: dict[str, None] = {}
    looked = False
    for row in rows:
        looked = True
        answers = first_of(row, LISTS.answers)
        items = [item for item in answers if isinstance(item, dict)] if isinstance(answers, list) else []
        for held in items or [row]:
            if field in held:
                return None
            found.update(dict.fromkeys(name for name, value in held.items() if _is_score(value)))
    if not looked:
        return None
    told = f"; their scores are {', '.join(f'`{name}`' for name in list(found)[:MOST_NAMES])}" if found else ""
    near = near_name(field, found) or (next(iter(found)) if len(found) == 1 else None)
    return DataError(
        f"no answer has a member `{field}`{told}",
        hint=f"--score-field {shlex.quote(near or '...')}" if found else "leave `--score-field` out",
    )


def _is_score(value: Any) -> bool:
    """Tell a number, also one written as text, or a list of them."""
    values = value if isinstance(value, list) else [value]
    try:
        return bool({score_of(one) for one in values} - {None})
    except Rejection:
        return False
