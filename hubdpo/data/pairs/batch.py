"""A batch of pairs on their way to a file: columns of messages, and a list for each other thing that is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, compress
from typing import Any

from hubdpo.artefacts.formats.messages import COLUMNS
from hubdpo.data.pairs.example import PreferenceExample, Row
from hubdpo.data.pairs.kept import Kept
from hubdpo.data.pairs.message_column import Columns, MessagesColumn


@dataclass(slots=True)
class Pair:
    """A pair, or half of one, with the row that it was made of."""

    line: int
    example: PreferenceExample
    kept: list[str | None]
    value: Row | None
    changes: int = 0
    lengths: Lengths | None = None
    score: float = 0.0


@dataclass
class Pairs:
    """Many of them; `kept` has a list for each column that is kept, `lengths` is None where no tokenizer counts."""

    lines: list[int]
    values: Sequence[Row | None]
    columns: Columns
    kept: list[Kept]
    changes: list[int]
    scores: list[float]
    lengths: list[Lengths | None]

    @classmethod
    def of(cls, pairs: list[Pair], keep: int) -> Pairs:
        """Bring single pairs together; `keep` is the number of columns that are kept."""
        prompt, chosen, rejected = (MessagesColumn([getattr(pair.example, name) for pair in pairs]) for name in COLUMNS)
        return cls(
            [pair.line for pair in pairs], [pair.value for pair in pairs], (prompt, chosen, rejected),
            [[pair.kept[i] for pair in pairs] for i in range(keep)], [pair.changes for pair in pairs],
            [pair.score for pair in pairs], [pair.lengths for pair in pairs],
        )  # fmt: skip

    @classmethod
    def plain(cls, lines: Sequence[int], values: list[Row], columns: Columns, kept: list[Kept]) -> Pairs:
        """Take pairs that were converted together, of which nothing else is known."""
        count = len(values)
        return cls(list(lines), values, columns, kept, [0] * count, [0.0] * count, [None] * count)

    @classmethod
    def joined(cls, parts: list[Pairs]) -> Pairs:
        """Put batches below one another."""
        if len(parts) == 1:
            return parts[0]

        def all_of(name: str) -> list[Any]:
            return list(chain.from_iterable(getattr(part, name) for part in parts))

        prompt, chosen, rejected = (MessagesColumn.joined([part.columns[i] for part in parts]) for i in range(3))
        kept = [list(chain.from_iterable(texts)) for texts in zip(*(part.kept for part in parts), strict=True)]
        return cls(
            all_of("lines"), all_of("values"), (prompt, chosen, rejected), kept, all_of("changes"), all_of("scores"),
            all_of("lengths"),
        )  # fmt: skip

    def only(self, keep: Any) -> Pairs:
        """Return the pairs of a mask, bool (rows,)."""

        def some(values: Sequence[Any]) -> list[Any]:
            return list(compress(values, keep))

        prompt, chosen, rejected = (column.only(keep) for column in self.columns)
        return Pairs(
            some(self.lines), some(self.values), (prompt, chosen, rejected), [some(texts) for texts in self.kept],
            some(self.changes), some(self.scores), some(self.lengths),
        )  # fmt: skip

    def example(self, place: int) -> PreferenceExample:
        prompt, chosen, rejected = (column.row(place) for column in self.columns)
        return PreferenceExample(prompt, chosen, rejected)


@dataclass(frozen=True)
class Lengths:
    """Tokens of the three parts as they will be trained on, template included, and whether the row was changed."""

    prompt: int
    chosen: int
    rejected: int
    changes: int = 0
