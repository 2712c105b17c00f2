"""Which rows stay in the split that they were published in, and which get one by a hash of their prompt."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hubdpo import console
from hubdpo.config import PrepareConfig
from hubdpo.data.clean.decide import ASKED_TEST, ASKED_TRAIN, DRAWN, TEST_SIZE, Asked
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
    `columns` are those that told the split of some rows. `shares` are the shares of prompts to hold out, by piece; None
    if all are that of `--test-size`.
    """

    tables: npt.NDArray[np.uint8] | None = None
    columns: frozenset[str] = frozenset()
    shares: Sequence[float] | None = None

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

    def shares_of_rows(self, counts: Iterable[int]) -> npt.NDArray[np.float64] | None:
        """Return the share for each row, float64 (rows,), by the number of rows of each piece."""
        return None if self.shares is None else np.repeat(np.array(self.shares, np.float64), list(counts))

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

    They do if the run has test rows, and others. A source whose description says what its split is keeps to that. Raise
    DataError if a column that was asked for names no split at all.
    """
    codes = [published_in(piece, result) for piece, result in zip(pieces, first, strict=True)]
    told = {_source(piece) for piece, some in zip(pieces, codes, strict=True) if some - {0}}  # by some of their rows
    _check_columns(pieces, rules, first, codes)
    own = [_own_table(piece, rule, told) for piece, rule in zip(pieces, rules, strict=True)]
    given = [some if table is None else {*table} for some, table in zip(codes, own, strict=True)]
    has_test = any(ASKED_TEST in some for some in given)
    named = any(rule.split_column and rule.split_column.asked for rule in rules if rule.source.split is None)
    published = named or (has_test and any(ASKED_TRAIN in some or some == {0} for some in given))
    if config.split == PUBLISHED and not published:
        console.warn("`--split published`: the source has no published train and test rows, so a new split is drawn")
    if published and config.split is None and config.test_size is not None:
        published = False
        tests = [piece.file.name for piece, some in zip(pieces, codes, strict=True) if CODES["test"] in some]
        if tests and None in own:
            console.warn(
                f"`--test-size` draws a new split: the published test rows ({publishers(tests)}) are split with all "
                "others; leave it out to keep them apart"
            )
    tables = []
    for piece, table in zip(pieces, own, strict=True):
        # with `--test-size` as well, sources without a published split are drawn; else their rows are train rows
        other = ASKED_TRAIN if config.test_size is None or _source(piece) in told else DRAWN
        kept = (other, ASKED_TRAIN, ASKED_TEST) if published and config.split != NONE else (DRAWN,) * 3
        tables.append(kept if table is None else table)
    _report_unknown(pieces, rules, first, tables)
    by_column = {
        rule.split_column.place
        for piece, rule, some, table in zip(pieces, rules, codes, tables, strict=True)
        if rule.split_column and some - {0} and table[1] != table[2] and (rule.split_column.asked or not piece.split)
    }
    shares = [rule.source.split if isinstance(rule.source.split, float) else None for rule in rules]
    default = TEST_SIZE if config.test_size is None else config.test_size
    return SplitPlan(
        np.array(tables, np.uint8) if any(map(any, tables)) else None,
        frozenset(by_column),
        [default if share is None else share for share in shares]
        if any(share is not None for share in shares)
        else None,
    )


def _source(piece: Piece) -> tuple[int, str]:
    return piece.file.described, piece.file.argument


def _own_table(piece: Piece, rule: Rules, told: set[tuple[int, str]]) -> tuple[int, int, int] | None:
    """Return the row of `SplitPlan.tables` for a piece whose source has a split of its own, else None."""
    split = rule.source.split
    if split is None:
        return None
    if split in ("train", "test"):
        asked = ASKED_TEST if split == "test" else ASKED_TRAIN
        return asked, asked, asked
    if isinstance(split, float) or split == NONE:
        return DRAWN, DRAWN, DRAWN
    if split == PUBLISHED and _source(piece) not in told:
        console.warn(f"`split: published`: {piece.file.name} has no published split, so one is drawn")
        return DRAWN, DRAWN, DRAWN
    return ASKED_TRAIN, ASKED_TRAIN, ASKED_TEST


def _report_unknown(
    pieces: Sequence[Piece],
    rules: Sequence[Rules],
    first: Sequence[PieceResult],
    tables: Sequence[tuple[int, ...]],
) -> None:
    """Warn of rows whose column names no split, by file. A column `split` that names none at all may mean anything."""
    values: dict[tuple[str, str, bool], Counter[str]] = {}
    told: set[str] = set()
    for piece, rule, result, table in zip(pieces, rules, first, tables, strict=True):
        if (column := rule.split_column) is not None and table[1] != table[2]:
            told |= {piece.file.name} if column.asked or set(result.splits) - {0} else set()
            key = piece.file.name, column.place, table[0] == DRAWN
            values.setdefault(key, Counter()).update(result.no_split)
    for (name, place, drawn), counts in values.items():
        if counts and name in told:
            what = "are split by `--test-size`" if drawn else "count as train rows"
            console.warn(
                f"{counts.total():,} rows of {name} have neither train nor test in `{place}` ({_listed(counts)}): "
                f"they {what}"
            )


def _check_columns(
    pieces: Sequence[Piece], rules: Sequence[Rules], first: Sequence[PieceResult], codes: Sequence[set[int]]
) -> None:
    """Raise DataError if a column that was asked for names no split in any row that it was asked for."""
    found: dict[tuple[str, int | None], tuple[set[int], Counter[str]]] = {}
    for piece, rule, result, some in zip(pieces, rules, first, codes, strict=True):
        if (column := rule.split_column) is not None and column.asked:
            known, values = found.setdefault(
                (column.place, None if rule.source.split is None else piece.file.described), (set(), Counter())
            )
            known |= some - {0}
            values.update(result.no_split)
    for (place, source), (known, values) in found.items():
        if not known:
            option = f"`--split {place}`" if source is None else f"`split: {place}`"
            raise DataError(
                f"{option}: no value of this column is the name of a split; it has {_listed(values)}",
                hint="name a column with values such as train and test, or leave the option out",
            )


def _listed(counts: Counter[str]) -> str:
    values = (f"`{value}` ({count:,})" if value else f"nothing ({count:,})" for value, count in counts.most_common())
    return console.listed(values)
