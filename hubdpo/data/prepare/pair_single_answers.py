"""Second round, for formats with one answer a row: pairs of the answers to one prompt, wherever they stand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from hubdpo.artefacts.folders import storage
from hubdpo.artefacts.formats.messages import Message
from hubdpo.data.clean.keys import ROW_KEY
from hubdpo.data.converters.pairing import ConvertOptions, candidates, too_close
from hubdpo.data.pairs.example import PreferenceExample, Rejection
from hubdpo.data.prepare.convert_piece import Stage, Staged, file_of
from hubdpo.data.prepare.rules import Rules

SECOND = "-pairs"
"""Suffix of what the second round writes, so that it can read what the first one wrote."""


@dataclass(frozen=True)
class PairingTask:
    """The pairs whose better answer stands in piece `number`: (better, worse) as (piece, row) each, and lost rows."""

    number: int
    rules: Rules
    pairs: list[tuple[int, tuple[int, int]]]
    losses: list[tuple[int, str]]


def pair_up(staged: list[Staged], rules: Rules, how: ConvertOptions, *, labelled: bool) -> list[PairingTask]:
    """Decide which answers to compare, in the order of the better ones.

    `labelled` answers are good or bad: the first good one goes with the first bad one of its prompt, and so on; scored
    ones are paired as `how` says. Answers that stay alone are losses: `unpaired`, `duplicate_row`, `contradiction` for
    one answer labelled both ways, `tie` and `below_margin`.
    """
    keys = np.concatenate([np.frombuffer(_read(rules.scratch, part.number, "keys"), ROW_KEY) for part in staged])
    bounds = np.cumsum([0, *(part.rated for part in staged)])
    partner: dict[int, list[int]] = {}
    lost: dict[int, str] = {}
    used: set[int] = set()
    choose = _by_label if labelled else _by_score
    for group in _groups(keys):
        for better, worse in choose(keys, group, how, lost):
            partner.setdefault(better, []).append(worse)
            used |= {better, worse}
    for row in range(len(keys)):
        if row not in used and row not in lost:
            lost[row] = "unpaired"

    def place(row: int) -> tuple[int, int]:
        piece = int(np.searchsorted(bounds, row, "right")) - 1
        return staged[piece].number, int(row - bounds[piece])

    tasks = []
    for piece, part in enumerate(staged):
        rows = range(int(bounds[piece]), int(bounds[piece + 1]))
        pairs = [(row - rows.start, place(worse)) for row in rows for worse in partner.get(row, [])]
        losses = [(int(keys["line"][row]), lost[row]) for row in rows if row in lost and row not in used]
        tasks.append(PairingTask(part.number, rules, pairs, losses))
    return tasks


def stage_pairs(task: PairingTask) -> Staged:
    """Write the pairs of a task as `stage` writes those of a piece, its losses among them by line."""
    halves = _Halves(task.rules.scratch)
    lines = np.frombuffer(_read(task.rules.scratch, task.number, "keys"), ROW_KEY)["line"]
    events: list[tuple[int, int, Callable[[Stage], None]]] = []
    with Stage(task.number, replace(task.rules, single=False), suffix=SECOND) as stage:
        for order, (line, reason) in enumerate(task.losses):
            events.append((line, order, _losing(line, reason)))
        for order, (row, worse) in enumerate(task.pairs):
            events.append((int(lines[row]), order, _adding(int(lines[row]), halves, (task.number, row), worse)))
        for _, _, event in sorted(events, key=lambda event: event[:2]):
            event(stage)
    return stage.staged


def _losing(line: int, reason: str) -> Callable[[Stage], None]:
    return lambda stage: stage.lose(line, reason, None)


def _adding(line: int, halves: _Halves, better: tuple[int, int], worse: tuple[int, int]) -> Callable[[Stage], None]:
    def add(stage: Stage) -> None:
        prompt, chosen, kept = halves.get(*better)
        _, rejected, _ = halves.get(*worse)
        size = sum(len(message["content"]) for message in (*prompt, *chosen, *rejected))
        try:
            changes = halves.changes(*better) | halves.changes(*worse)
            stage.add_pair(line, PreferenceExample(prompt, chosen, rejected, changes), kept, size)
        except Rejection as rejection:
            stage.lose(line, rejection.reason, None)

    return add


class _Halves:
    """Reads single rows of the first round, in any order."""

    def __init__(self, scratch: str) -> None:
        self._scratch = scratch
        self._open: dict[int, tuple[pa.ipc.RecordBatchFileReader, list[int]]] = {}
        self._changes: dict[int, Any] = {}

    def changes(self, piece: int, row: int) -> int:
        """Return what was altered in a row."""
        if piece not in self._changes:
            self._changes[piece] = np.frombuffer(_read(self._scratch, piece, "keys"), ROW_KEY)["changes"].copy()
        return int(self._changes[piece][row])

    def get(self, piece: int, row: int) -> tuple[list[Message], list[Message], list[str | None]]:
        reader, starts = self._reader(piece)
        batch = int(np.searchsorted(starts, row, "right")) - 1
        values = list(reader.get_batch(batch).slice(row - starts[batch], 1).to_pylist()[0].values())
        return values[0], values[1], values[3:]

    def _reader(self, piece: int) -> tuple[pa.ipc.RecordBatchFileReader, list[int]]:
        if piece not in self._open:
            place = file_of(self._scratch, piece, "rows")
            reader = pa.ipc.open_file(storage.map_arrow(place))
            sizes = [reader.get_batch(i).num_rows for i in range(reader.num_record_batches)]
            self._open[piece] = reader, np.cumsum([0, *sizes])[:-1].tolist() or [0]
        return self._open[piece]


def _groups(keys: Any) -> Iterator[Any]:
    """Give the rows of each prompt that has several, in order."""
    order = np.lexsort((np.arange(len(keys)), keys["high"], keys["low"]))
    sorted_keys = keys[order]
    same = (sorted_keys["low"][1:] == sorted_keys["low"][:-1]) & (sorted_keys["high"][1:] == sorted_keys["high"][:-1])
    for group in np.split(order, np.flatnonzero(~same) + 1):
        if len(group) > 1:
            yield group.tolist()


def _distinct(keys: Any, group: list[int], lost: dict[int, str]) -> list[int]:
    """Leave out rows that repeat an answer with its score, and answers that have two scores."""
    scores: dict[int, set[float]] = {}
    for row in group:
        scores.setdefault(int(keys["prompt"][row]), set()).add(float(keys["score"][row]))
    seen: set[int] = set()
    rows = []
    for row in group:
        answer = int(keys["prompt"][row])
        if len(scores[answer]) > 1:
            lost[row] = "contradiction"
        elif answer in seen:
            lost[row] = "duplicate_row"
        else:
            seen.add(answer)
            rows.append(row)
    return rows


def _by_label(keys: Any, group: list[int], how: ConvertOptions, lost: dict[int, str]) -> Iterator[tuple[int, int]]:
    rows = _distinct(keys, group, lost)
    good = [row for row in rows if keys["score"][row] > 0]
    bad = [row for row in rows if keys["score"][row] <= 0]
    yield from zip(good, bad, strict=False)


def _by_score(keys: Any, group: list[int], how: ConvertOptions, lost: dict[int, str]) -> Iterator[tuple[int, int]]:
    rows = _distinct(keys, group, lost)
    scores = [float(keys["score"][row]) for row in rows]
    for better, worse in candidates(scores, how.pairs):
        if reason := too_close(scores[better] - scores[worse], how):
            lost.setdefault(rows[better], reason)
            lost.setdefault(rows[worse], reason)
        else:
            yield rows[better], rows[worse]


def _read(scratch: str, number: int, kind: str) -> bytes:
    with storage.open_read(file_of(scratch, number, kind)) as stream:
        return stream.read()
