"""Which rows stay in the split that they were published in, and which get one by a hash of their prompt."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hubdpo import console
from hubdpo.config import PrepareConfig
from hubdpo.data.clean.decide import ASKED_TEST, ASKED_TRAIN, DRAWN, Asked
from hubdpo.data.clean.keys import RowKeys
from hubdpo.data.clean.screen import MOST_NAMES, OTHERS
from hubdpo.data.pairs.example import Row
from hubdpo.data.prepare.piece_writer import PieceResult
from hubdpo.data.prepare.rules import Rules
from hubdpo.data.raw.pieces import Piece
from hubdpo.data.raw.raw_file import publishers
from hubdpo.data.raw.split_names import CODES, NONE, PUBLISHED, split_codes
from hubdpo.errors import DataError
from hubdpo.secrets import shown_name

LONGEST_VALUE = 40


@dataclass(frozen=True)
class SplitPlan:
    """The split that rows are given, by the one they were published in.

    `tables` is uint8 (pieces, 3), with a code of `decide` for each code of `CODES`; it is None if all rows are drawn.
    `columns` are those that told the split of some rows.
    """

    tables: npt.NDArray[np.uint8] | None = None
    columns: frozenset[str] = frozenset()

    @property
    def published(self) -> bool:
        """Whether rows stay in their published split."""
        return self.tables is not None

    def asked(self, keys: RowKeys, pieces: Sequence[int], counts: Iterable[int]) -> Asked:
        """Return the codes for the rows of some pieces, uint8 (rows,); `counts` are the rows of each."""
        if self.tables is None:
            return np.zeros(len(keys), np.uint8)
        asked: Asked = self.tables[np.repeat(pieces, list(counts)), keys["split"]]
        return asked

    def names(self, piece: Piece, result: PieceResult) -> list[str]:
        """Return the splits in which rows of a piece stay."""
        if self.tables is None:
            return []
        asked = {int(self.tables[result.number, code]) for code in published_in(piece, result)}
        return [name for name, code in (("train", ASKED_TRAIN), ("test", ASKED_TEST)) if code in asked]


def published_codes(rows: Sequence[Row], piece: Piece, rules: Rules, result: PieceResult) -> list[int]:
    """Return the code of the published split of each row, by a column or by the name of the file or list.

    A column that `--split` names takes precedence over the names. Rows for which neither tells it are counted.
    """
    of_piece, column = CODES[piece.split], rules.split_column
    if column is None or (of_piece and not column.asked):
        return [of_piece] * len(rows)
    codes, values = split_codes(rows, column.place)
    if of_piece:
        return [code or of_piece for code in codes]
    if 0 in codes:
        for value, count in Counter(str(v or "") for v, code in zip(values, codes, strict=True) if not code).items():
            shown = shown_name(value[:LONGEST_VALUE], rules.config.scan == "secrets")
            names = result.no_split
            names[shown if shown in names or len(names) < MOST_NAMES else OTHERS] += count
    return codes


def published_in(piece: Piece, result: PieceResult) -> set[int]:
    """Return the codes of the splits in which rows of a piece were published."""
    return set(result.splits) or {CODES[piece.split]}


def plan_splits(
    config: PrepareConfig, pieces: Sequence[Piece], rules: Sequence[Rules], first: Sequence[PieceResult]
) -> SplitPlan:
    """Decide which rows stay in their published split, from the results of the first round.

    They do if the run has rows published as test rows, and others. Raise DataError if the column of `--split` names no
    split at all.
    """
    codes = [published_in(piece, result) for piece, result in zip(pieces, first, strict=True)]
    named = config.split not in (None, PUBLISHED, NONE)
    if named and not any(some - {0} for some in codes):
        raise _names_no_split(config, first)
    has_test = any(CODES["test"] in some for some in codes)
    published = named or (has_test and any(CODES["train"] in some or some == {0} for some in codes))
    if config.split == PUBLISHED and not published:
        console.warn("`--split published`: the source has no published train and test rows, so a new split is drawn")
    if config.split == NONE or not published:
        return SplitPlan()
    if config.split is None and config.test_size is not None:
        tests = (piece.file.name for piece, some in zip(pieces, codes, strict=True) if CODES["test"] in some)
        console.warn(
            f"`--test-size` draws a new split: the published test rows ({publishers(tests)}) are split with all "
            "others; leave it out to keep them apart"
        )
        return SplitPlan()
    # with `--test-size` as well, sources without a published split are drawn; else their rows are train rows
    told = {piece.file.argument for piece, some in zip(pieces, codes, strict=True) if some - {0}}
    others = [ASKED_TRAIN if config.test_size is None or piece.file.argument in told else DRAWN for piece in pieces]
    _report_unknown(pieces, rules, first, others, named=named)
    by_column = (
        rule.split_column.place
        for rule, piece, some in zip(rules, pieces, codes, strict=True)
        if rule.split_column and some - {0} and (named or piece.split is None)
    )
    return SplitPlan(np.array([[other, ASKED_TRAIN, ASKED_TEST] for other in others], np.uint8), frozenset(by_column))


def _report_unknown(
    pieces: Sequence[Piece],
    rules: Sequence[Rules],
    first: Sequence[PieceResult],
    others: Sequence[int],
    *,
    named: bool,
) -> None:
    """Warn of rows whose column names no split, by file. A column `split` that names none at all may mean anything."""
    values: dict[str, Counter[str]] = {}
    told: set[str] = set()
    became: dict[str, str] = {}
    for piece, result, other in zip(pieces, first, others, strict=True):
        name = piece.file.name
        values.setdefault(name, Counter()).update(result.no_split)
        told |= {name} if named or (piece.split is None and set(result.splits) - {0}) else set()
        became[name] = "count as train rows" if other == ASKED_TRAIN else "are split by `--test-size`"
    column = next((rule.split_column.place for rule in rules if rule.split_column), "")
    for name, counts in values.items():
        if counts and name in told:
            console.warn(
                f"{counts.total():,} rows of {name} have neither train nor test in `{column}` ({_listed(counts)}): "
                f"they {became[name]}"
            )


def _names_no_split(config: PrepareConfig, first: Sequence[PieceResult]) -> DataError:
    counts = sum((result.no_split for result in first), Counter[str]())
    return DataError(
        f"`--split {config.split}`: no value of this column is the name of a split; it has {_listed(counts)}",
        hint="name a column with values such as train and test, or leave `--split` out",
    )


def _listed(counts: Counter[str]) -> str:
    values = (f"`{value}` ({count:,})" if value else f"nothing ({count:,})" for value, count in counts.most_common())
    return console.listed(values)
