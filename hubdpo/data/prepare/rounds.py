"""The work over all pieces: a first round that converts, and a second one that pairs the answers that came alone."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hubdpo.artefacts.folders import storage
from hubdpo.artefacts.folders.workspace import Workspace
from hubdpo.config import PrepareConfig
from hubdpo.data.clean.decide import REASONS, SPLITS, VERDICTS, Decision
from hubdpo.data.prepare.convert_piece import Staged, file_of
from hubdpo.data.prepare.dropped import POLICIES, is_error
from hubdpo.data.prepare.pair_single_answers import PairingTask, pair_up, stage_pairs
from hubdpo.data.prepare.rules import Rules, choice_of
from hubdpo.data.prepare.workers import Engine
from hubdpo.data.raw.pieces import Piece
from hubdpo.errors import DataError


@dataclass(frozen=True)
class Rounds:
    """What became of each piece in the first round, and in the second one, by its number, where it had one."""

    first: list[Staged]
    second: dict[int, Staged] = field(default_factory=dict)

    @property
    def last(self) -> list[Staged]:
        """Return, for each piece, what wrote its pairs."""
        return [self.second.get(part.number, part) for part in self.first]

    @property
    def all(self) -> list[Staged]:
        return [*self.first, *self.second.values()]

    def of(self, number: int) -> list[Staged]:
        return [self.first[number], *([self.second[number]] if number in self.second else [])]


def allowed(pieces: list[Piece], staged: Iterable[Staged], config: PrepareConfig) -> Iterator[Staged]:
    """Pass results on, and raise DataError, with its place, at the first row that may not be dropped."""
    before: Counter[int] = Counter()
    for piece, part in zip(pieces, staged, strict=True):
        if part.first_loss is not None:
            line, reason = part.first_loss
            raise _loss_error(piece, before[piece.file.number] + line, reason, config)
        before[piece.file.number] += part.lines
        yield part


def second_round(
    engine: Engine, first: list[Staged], rules: list[Rules], pieces: list[Piece], *, apart: bool
) -> Rounds:
    """Pair up the single answers of the first round, of one converter each; those of two splits stay `apart`."""
    groups: dict[tuple[str, bool], list[Staged]] = {}
    for part, rule, piece in zip(first, rules, pieces, strict=True):
        if rule.single:
            groups.setdefault((rule.converter, apart and piece.split == "test"), []).append(part)
    tasks: list[PairingTask] = []
    for (name, _), staged in groups.items():
        rule = rules[staged[0].number]
        tasks += pair_up(staged, rule, choice_of(rule.config), labelled=name == "unpaired")
    tasks.sort(key=lambda task: task.number)
    results = list(engine.map(stage_pairs, tasks))
    for result in results:
        result.lines = first[result.number].lines
    own = [pieces[task.number] for task in tasks]
    return Rounds(first, {part.number: part for part in allowed(own, results, rules[0].config)})


def gathered(rounds: Rounds, space: Workspace, kind: str, dtype: Any, shape: tuple[int, ...]) -> Any:
    """Put what the tasks wrote about each pair behind one another, in a file that is mapped and not read."""
    place = Path(space.local) / kind
    with place.open("wb") as out:
        for part in rounds.last:
            if part.pairs:
                with storage.open_read(file_of(space.scratch, part.number, kind + part.suffix)) as stream:
                    shutil.copyfileobj(stream, out, 1 << 20)
    empty = place.stat().st_size == 0
    return np.zeros(0, dtype).reshape(shape) if empty else np.memmap(place, dtype, "r").reshape(shape)


def published_test(rounds: Rounds, pieces: list[Piece]) -> Any:
    """Return bool (pairs,): which pairs were published as test rows."""
    return np.repeat([piece.split == "test" for piece in pieces], [part.pairs for part in rounds.last])


def refuse(config: PrepareConfig, decision: Decision, keys: Any, rounds: Rounds, pieces: list[Piece]) -> None:
    """Raise DataError at the first pair that may not be dropped, now that all pairs are known."""
    forbidden = [number for number, reason in enumerate(REASONS, start=len(SPLITS)) if is_error(reason, config)]
    rows = np.flatnonzero(np.isin(decision.verdict, forbidden))
    if not len(rows):
        return
    bounds = np.cumsum([0, *(part.pairs for part in rounds.last)])
    number = int(np.searchsorted(bounds, rows[0], "right")) - 1
    same_file = (
        part.lines
        for part, piece in zip(rounds.last[:number], pieces, strict=False)
        if piece.file == pieces[number].file
    )
    line = sum(same_file) + int(keys["line"][rows[0]])
    raise _loss_error(pieces[number], line, VERDICTS[decision.verdict[rows[0]]], config)


def _loss_error(piece: Piece, line: int, reason: str, config: PrepareConfig) -> DataError:
    option = "--strict" if config.strict else f"--{POLICIES[reason].replace('_', '-')} error"
    return DataError(
        f"{piece.file.name}, line {line}: {reason}",
        hint=f"mend the row, or leave `{option}` out to drop and count such rows",
    )
