"""Pairs on their way to Arrow: single pairs, and batches of them stored column by column."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, compress

import numpy as np
import numpy.typing as npt
import orjson

from hubdpo.artefacts.formats.messages import COLUMNS
from hubdpo.data.pairs.example import PreferenceExample, Rejection, Row
from hubdpo.data.pairs.extras import pack, with_extras
from hubdpo.data.pairs.message_column import MessageColumn, PairColumns

FIELDS = {
    "lines": "line", "values": "value", "changes": "changes", "scores": "score", "lengths": "lengths",
    "splits": "split",
}  # fmt: skip
"""The field of a Pair that each list of a PairBatch takes."""
LISTS = (*FIELDS, "extras")
"""The lists of a PairBatch with an entry per pair."""
KeptColumn = list[str | bytes | None]
"""One column that `--keep` copies, a value per pair: text, or its UTF-8, or None."""


@dataclass(frozen=True)
class Lengths:
    """Tokens of each part of a pair, chat template included; `changes` has the bit CUT if the prompt was cut."""

    prompt: int
    chosen: int
    rejected: int
    changes: int = 0


@dataclass(slots=True)
class Pair:
    """A pair, or a single scored answer (then `rejected` is empty), with the row it was made from."""

    line: int
    example: PreferenceExample
    kept: list[str | None]
    value: Row | None
    changes: int = 0
    lengths: Lengths | None = None
    score: float = 0.0
    split: int = 0
    """Code of the split in which the row was published."""


@dataclass
class PairBatch:
    """A batch of pairs, column-wise. All lists have one entry per pair; `kept` has one list per kept column.

    `extras` has what `hubdpo.data.pairs.extras.pack` makes of a pair. `lengths` holds None where no tokenizer counts.
    """

    lines: list[int]
    values: Sequence[Row | None]
    columns: PairColumns
    extras: list[str]
    kept: list[KeptColumn]
    changes: list[int]
    scores: list[float]
    lengths: list[Lengths | None]
    splits: list[int]

    @classmethod
    def from_pairs(cls, pairs: list[Pair], keep: int) -> PairBatch:
        """Collect single pairs; `keep` is the number of kept columns."""
        return cls(
            columns=PairColumns(
                *(MessageColumn.of([getattr(pair.example, name) for pair in pairs]) for name in COLUMNS)
            ),
            extras=[pack(pair.example) for pair in pairs],
            kept=[[pair.kept[i] for pair in pairs] for i in range(keep)],
            **{name: [getattr(pair, of_pair) for pair in pairs] for name, of_pair in FIELDS.items()},
        )

    @classmethod
    def from_columns(
        cls, lines: Sequence[int], values: list[Row], columns: PairColumns, kept: list[KeptColumn], splits: list[int]
    ) -> PairBatch:
        """Wrap columns of text that were converted together; nothing in them was changed, scored or measured."""
        count = len(values)
        return cls(
            list(lines), values, columns, [""] * count, kept, [0] * count, [0.0] * count, [None] * count, splits
        )  # fmt: skip

    @classmethod
    def concat(cls, parts: list[PairBatch]) -> PairBatch:
        """Concatenate batches that keep the same columns."""
        if len(parts) == 1:
            return parts[0]  # nearly always: a whole block was plain
        return cls(
            columns=PairColumns(*map(MessageColumn.concat, zip(*(part.columns for part in parts), strict=True))),
            kept=[list(chain.from_iterable(columns)) for columns in zip(*(part.kept for part in parts), strict=True)],
            **{name: list(chain.from_iterable(getattr(part, name) for part in parts)) for name in LISTS},
        )

    def filter(self, mask: npt.NDArray[np.bool_]) -> PairBatch:
        """Return the pairs where `mask`, bool (pairs,), is true."""
        return PairBatch(
            columns=PairColumns(*(column.filter(mask) for column in self.columns)),
            kept=[list(compress(column, mask)) for column in self.kept],
            **{name: list(compress(getattr(self, name), mask)) for name in LISTS},
        )

    def example(self, index: int) -> PreferenceExample:
        prompt, chosen, rejected = (column.row(index) for column in self.columns)
        return with_extras(PreferenceExample(prompt, chosen, rejected), self.extras[index])


def kept_values(row: Row, names: list[str]) -> list[str | None]:
    """Return the kept columns of a row as text. Raise Rejection if a value has no JSON form."""
    return [_kept_text(row.get(name)) for name in names]


def kept_columns(rows: list[Row], names: list[str]) -> list[KeptColumn] | None:
    """Return the kept columns of many rows, or None if a value has no JSON form."""
    try:
        return [[_kept_text(row.get(name)) for row in rows] for name in names]
    except Rejection:
        return None


def _kept_text(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    try:
        # by its text: a decimal, for one, which Parquet has and JSON lacks
        return str(orjson.dumps(value, default=str), "utf-8")
    except TypeError:
        raise Rejection("wrong_type") from None
