"""Run the tasks over all pieces: a first round that converts rows, and a second one that pairs up single answers."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hubdpo.artefacts.folders import storage
from hubdpo.artefacts.folders.workspace import Workspace
from hubdpo.config import PrepareConfig
from hubdpo.config.base import flag_of
from hubdpo.data.clean.decide import REASONS, VERDICTS, Decision
from hubdpo.data.clean.keys import RowKeys
from hubdpo.data.prepare.dropped import POLICIES, is_error
from hubdpo.data.prepare.pair_single_answers import PairingTask, pair_up, write_pairs
from hubdpo.data.prepare.piece_writer import PieceResult, scratch_file
from hubdpo.data.prepare.rules import Rules
from hubdpo.data.prepare.splits import SplitPlan
from hubdpo.data.prepare.workers import Engine
from hubdpo.data.raw.pieces import Piece
from hubdpo.errors import DataError


@dataclass(frozen=True)
class Rounds:
    """Results of the first round for each piece, and of the second one by the numbers of the pieces that had one."""

    first: list[PieceResult]
    second: dict[int, PieceResult] = field(default_factory=dict)

    @property
    def last(self) -> list[PieceResult]:
        """The result that wrote the pairs of each piece."""
        return [self.second.get(result.number, result) for result in self.first]

    def of(self, number: int) -> list[PieceResult]:
        """Return the one or two results of a piece."""
        return [self.first[number], *([self.second[number]] if number in self.second else [])]


def stop_at_errors(pieces: list[Piece], results: Iterable[PieceResult], config: PrepareConfig) -> Iterator[PieceResult]:
    """Pass results on. Raise DataError at the first row that the policies do not allow to drop."""
    for piece, result, before in with_lines_before(pieces, results):
        if result.first_error is not None:
            line, reason = result.first_error
            raise _not_allowed(piece, before + line, reason, config)
        yield result


def with_lines_before(
    pieces: Iterable[Piece], results: Iterable[PieceResult]
) -> Iterator[tuple[Piece, PieceResult, int]]:
    """Yield each piece, its result, and the lines of its file before it; a result counts the lines of its piece."""
    before: Counter[int] = Counter()
    for piece, result in zip(pieces, results, strict=True):
        yield piece, result, before[piece.file.number]
        before[piece.file.number] += result.lines


def second_round(
    engine: Engine, first: list[PieceResult], rules: list[Rules], pieces: list[Piece], plan: SplitPlan
) -> Rounds:
    """Pair up the single answers of each source and format."""
    groups: dict[tuple[str, int], list[PieceResult]] = {}
    for result, rule, piece in zip(first, rules, pieces, strict=True):
        if rule.single:
            groups.setdefault((rule.converter, piece.file.described), []).append(result)
    tasks: list[PairingTask] = []
    for results in groups.values():
        tasks += pair_up(results, rules, plan)
    tasks.sort(key=lambda task: task.number)
    paired = list(engine.map(write_pairs, tasks))
    for result in paired:
        result.lines = first[result.number].lines
    checked = stop_at_errors([pieces[task.number] for task in tasks], paired, rules[0].config)
    return Rounds(first, {result.number: result for result in checked})


def gather(rounds: Rounds, space: Workspace, kind: str, dtype: np.dtype[Any], *shape: int) -> npt.NDArray[Any]:
    """Concatenate the files of this kind (`keys`, `near`) of all pieces, and map the array, (pairs, *shape)."""
    path = Path(space.local) / kind
    with path.open("wb") as out:
        for result in rounds.last:
            if result.pairs:
                with storage.open_read(scratch_file(space.scratch, result.number, kind + result.suffix)) as stream:
                    shutil.copyfileobj(stream, out, 1 << 20)
    if path.stat().st_size == 0:
        return np.zeros((0, *shape), dtype)
    return np.memmap(path, dtype, "r").reshape(-1, *shape)


def check_decision(
    config: PrepareConfig, decision: Decision, keys: RowKeys, rounds: Rounds, pieces: list[Piece]
) -> None:
    """Raise DataError at the first pair that was decided to be dropped and may not be."""
    forbidden = [VERDICTS.index(reason) for reason in REASONS if is_error(reason, config)]
    rows = np.flatnonzero(np.isin(decision.verdict, forbidden))
    if not len(rows):
        return
    stop = 0
    for piece, result, before in with_lines_before(pieces, rounds.last):
        stop += result.pairs
        if rows[0] < stop:
            line = before + int(keys["line"][rows[0]])
            raise _not_allowed(piece, line, VERDICTS[decision.verdict[rows[0]]], config)


def _not_allowed(piece: Piece, line: int, reason: str, config: PrepareConfig) -> DataError:
    option = "--strict" if config.strict else f"{flag_of(POLICIES[reason])} error"
    return DataError(
        f"{piece.file.name}, {piece.file.place} {line}: {reason}",
        hint=f"fix the row, or remove `{option}` to drop and count such rows",
    )
