"""Which rows stay in the split that they were published in, and which get one by a hash of their prompt."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import compress

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
from hubdpo.data.raw.split_names import CODES, NONE, PUBLISHED, split_codes, split_of
from hubdpo.errors import DataError
from hubdpo.secrets import shown_name

LONGEST_VALUE, LONGEST_SHOWN = 1000, 40
"""Characters of a value that names no split: those that are kept, so that a credential is found, and those shown."""
Table = tuple[int, int, int]
"""The code of `decide` for each code of `CODES`."""
ALL_DRAWN = DRAWN, DRAWN, DRAWN


@dataclass(frozen=True)
class SplitPlan:
    """The split that rows are given, by the one they were published in.

    `tables` is uint8 (pieces, 3), with a code of `decide` for each code of `CODES`. `columns` told the split of some
    rows. `shares` are the shares of prompts to hold out, by piece; None if all are that of `--test-size`.
    """

    tables: npt.NDArray[np.uint8]
    columns: frozenset[str]
    shares: Sequence[float] | None

    @property
    def published(self) -> bool:
        """Whether rows stay in their published split."""
        return bool(self.tables.any())

    def asked(self, keys: RowKeys, pieces: Sequence[int], counts: Iterable[int]) -> Asked:
        """Return the codes for the rows of some pieces, uint8 (rows,); `counts` are the rows of each."""
        asked: Asked = self.tables[np.repeat(pieces, list(counts)), keys["split"]]
        return asked

    def shares_of_rows(self, counts: Iterable[int]) -> npt.NDArray[np.float64] | None:
        """Return the share for each row, float64 (rows,), by the number of rows of each piece."""
        return None if self.shares is None else np.repeat(np.array(self.shares, np.float64), list(counts))

    def names(self, piece: Piece, result: PieceResult) -> list[str]:
        """Return the splits in which rows of a piece stay."""
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
    result.split_by_column |= any(codes)
    if not any(values):
        result.no_split[""] += len(rows)
    elif 0 in codes:
        for value in compress(values, (code == 0 for code in codes)):
            name = str(value or "")[:LONGEST_VALUE]
            result.no_split[name if name in result.no_split or len(result.no_split) < MOST_NAMES else OTHERS] += 1
    return [code or of_piece for code in codes] if of_piece else codes


def published_in(piece: Piece, result: PieceResult) -> set[int]:
    """Return the codes of the splits in which rows of a piece were published."""
    return set(result.splits) or {CODES[piece.split]}


def plan_splits(
    config: PrepareConfig, pieces: Sequence[Piece], rules: Sequence[Rules], first: Sequence[PieceResult]
) -> SplitPlan:
    """Decide which rows stay in their published split, from the results of the first round.

    A source whose description says what its split is keeps to that. Raise DataError if a column that was asked for
    names no split at all.
    """
    _check_columns(pieces, rules, first)
    codes = [published_in(piece, result) for piece, result in zip(pieces, first, strict=True)]
    told = {_source(piece) for piece, some in zip(pieces, codes, strict=True) if some - {0}}  # by some of their rows
    own = [_own_table(piece, rule, told) for piece, rule in zip(pieces, rules, strict=True)]
    heeded = _heeds_published(config, pieces, rules, codes, own)
    tables = []
    for piece, table in zip(pieces, own, strict=True):
        # with `--test-size` as well, sources without a published split are drawn; else their rows are train rows
        other = ASKED_TRAIN if config.test_size is None or _source(piece) in told else DRAWN
        tables.append(table or ((other, ASKED_TRAIN, ASKED_TEST) if heeded else ALL_DRAWN))
    _report_unknown(pieces, rules, first, tables)
    columns = {
        rule.split_column.place
        for rule, result, table in zip(rules, first, tables, strict=True)
        if rule.split_column and result.split_by_column and _tells_apart(table)
    }
    default = TEST_SIZE if config.test_size is None else config.test_size
    shares = [rule.source.split if isinstance(rule.source.split, float) else default for rule in rules]
    return SplitPlan(np.array(tables, np.uint8), frozenset(columns), shares if {*shares} != {default} else None)


def _heeds_published(
    config: PrepareConfig,
    pieces: Sequence[Piece],
    rules: Sequence[Rules],
    codes: Sequence[set[int]],
    own: Sequence[Table | None],
) -> bool:
    """Whether rows of sources without a split of their own stay in the one that they were published in.

    They do if the run has test rows and others, or a column was asked for.
    """
    given = [some if table is None else {*table} for some, table in zip(codes, own, strict=True)]
    has_test = any(ASKED_TEST in some for some in given)
    named = any(rule.split_column and rule.split_column.asked for rule in rules if rule.source.split is None)
    published = named or (has_test and any(ASKED_TRAIN in some or some == {0} for some in given))
    if config.split == PUBLISHED and not published:
        console.warn("`--split published`: the source has no published train and test rows, so a new split is drawn")
    if config.split is None and config.test_size is not None:
        tests = [
            piece.file.name
            for piece, some, table in zip(pieces, codes, own, strict=True)
            if table is None and CODES["test"] in some
        ]
        if published and tests:
            console.warn(
                f"`--test-size` draws a new split: the published test rows ({publishers(tests)}) are split with all "
                "others; leave it out to keep them apart"
            )
        return False
    return published and config.split != NONE


def _source(piece: Piece) -> tuple[int, str]:
    return piece.file.described, piece.file.argument


def _own_table(piece: Piece, rule: Rules, told: set[tuple[int, str]]) -> Table | None:
    """Return the row of `SplitPlan.tables` for a piece whose source has a split of its own, else None."""
    split = rule.source.split
    if split is None:
        return None
    if split in ("train", "test"):
        asked = ASKED_TEST if split == "test" else ASKED_TRAIN
        return asked, asked, asked
    if isinstance(split, float) or split == NONE:
        return ALL_DRAWN
    if split == PUBLISHED and _source(piece) not in told:
        console.warn(f"`split: published`: {piece.file.name} has no published split, so one is drawn")
        return ALL_DRAWN
    return ASKED_TRAIN, ASKED_TRAIN, ASKED_TEST


def _tells_apart(table: Table) -> bool:
    return table[CODES["train"]] != table[CODES["test"]]


def _report_unknown(
    pieces: Sequence[Piece], rules: Sequence[Rules], first: Sequence[PieceResult], tables: Sequence[Table]
) -> None:
    """Warn of rows whose column names no split, by file. A column `split` that names none at all may mean anything."""
    found: dict[tuple[str, str, str], Counter[str]] = {}
    told: set[str] = set()
    for piece, rule, result, table in zip(pieces, rules, first, tables, strict=True):
        if (column := rule.split_column) is not None and _tells_apart(table):
            told |= {piece.file.name} if column.asked or result.split_by_column else set()
            became = "are drawn" if table[0] == DRAWN else "count as train rows"
            became = f"stay in `{piece.split}`, as it is called" if piece.split else became
            found.setdefault((piece.file.name, column.place, became), Counter()).update(result.no_split)
    for (name, place, became), counts in found.items():
        if counts and name in told:
            rows = f"{counts.total():,} rows of {name} have neither train nor test in `{place}`"
            console.warn(f"{rows} ({_listed(counts, rules[0])}): they {became}")


def _check_columns(pieces: Sequence[Piece], rules: Sequence[Rules], first: Sequence[PieceResult]) -> None:
    """Raise DataError if a column that was asked for names no split in any row that it was asked for."""
    found: dict[tuple[str, int | None], list[tuple[str, PieceResult]]] = {}
    for piece, rule, result in zip(pieces, rules, first, strict=True):
        if (column := rule.split_column) is not None and column.asked:
            of_source = None if rule.source.split is None else piece.file.described
            found.setdefault((column.place, of_source), []).append((piece.file.name, result))
    for (place, source), results in found.items():
        if not any(result.split_by_column for _, result in results):
            of = console.listed(dict.fromkeys(name for name, _ in results))
            option = f"`--split {place}`" if source is None else f"{of}: `split: {place}`"
            values = _listed(sum((result.no_split for _, result in results), Counter()), rules[0])
            meant = split_of(place) if source is not None else None
            hint = "name a column with values such as train and test, or leave the option out"
            raise DataError(
                f"{option}: no value of this column is the name of a split; it has {values or 'no rows'}",
                hint=f"for all rows of the source: `split: {meant}`" if meant else hint,
            )


def _listed(counts: Counter[str], rules: Rules) -> str:
    scan = rules.config.scan == "secrets"
    return console.listed(
        f"`{shown_name(value, scan)[:LONGEST_SHOWN]}` ({count:,})" if value else f"nothing ({count:,})"
        for value, count in counts.most_common()
    )
