"""Refuse votes that number the answers from elsewhere than their description says: every pair could be another one."""

from __future__ import annotations

from collections.abc import Iterable

from hubdpo.data.converters.columns import Columns
from hubdpo.data.converters.vote_words import is_whole_number, normalize
from hubdpo.data.pairs.example import Rejection, Row
from hubdpo.errors import DataError


def check_numbers(described: Columns, name: str, rows: Iterable[Row]) -> None:
    """Raise DataError if a vote of the first rows is no number of an answer, counted from `first`."""
    base = described.base or 0
    for row in rows:
        try:
            count = len(described.read_answers(row))
        except Rejection:
            continue
        for vote in map(normalize, described.votes(row)):
            if vote in described.ties or not is_whole_number(vote) or base <= int(vote) < base + count:
                continue
            other = base - 1 if int(vote) < base else base + 1
            raise DataError(
                f"{name}: a vote of `{described.vote[0].path}` is {vote}, and {count} answers counted from {base} have "
                "no such number",
                hint=f"--first {other}, if the first answer is number {other}; or --tie {vote}, if it names no answer",
            )
