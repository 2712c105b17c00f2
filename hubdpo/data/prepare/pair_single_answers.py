"""Second round, for formats with one answer per row: pair up the answers to the same prompt, across all pieces."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from hubdpo.artefacts.folders import storage
from hubdpo.artefacts.formats.messages import SCORES
from hubdpo.data.clean.decide import ASKED_TEST
from hubdpo.data.clean.keys import ROW_KEY, RowKeys
from hubdpo.data.converters import ConvertOptions
from hubdpo.data.pairs.batch import Pair
from hubdpo.data.pairs.example import PreferenceExample, Rejection
from hubdpo.data.pairs.extras import with_extras
from hubdpo.data.prepare.piece_writer import PieceResult, PieceWriter, scratch_file
from hubdpo.data.prepare.rules import Rules
from hubdpo.data.prepare.splits import SplitPlan

SECOND_ROUND = "-pairs"
"""Suffix of the files that this round writes while it reads those of the first round."""
BATCH_CHARACTERS = 2**20


class Answer(NamedTuple):
    """Where the first round wrote a single answer: number of the piece, and row in its files."""

    piece: int
    row: int


@dataclass(frozen=True)
class PairingTask:
    """The pairs whose better answer is in piece `number`, as (better, worse), and the rows of it that are dropped."""

    number: int
    rules: Rules
    pairs: list[tuple[Answer, Answer]]
    dropped: list[tuple[int, str]]
    """(line, reason)"""


def pair_up(results: list[PieceResult], rules: Sequence[Rules], plan: SplitPlan) -> list[PairingTask]:
    """Decide which answers to compare, in the order of the better ones. Answers of different splits are not compared.

    Scored answers are paired as `--pairs` says. Labelled answers are good or bad: `all` pairs every good answer of a
    prompt with every bad one, `best-each` its first good one, and by default the n-th good one with the n-th bad one.
    Rows left alone are dropped as `unpaired`, `duplicate_row`, `contradiction` (one answer with two labels or scores),
    `tie` or `below_margin`.
    """
    one = rules[results[0].number]
    keys = np.concatenate([_read_keys(one.scratch, result.number) for result in results])
    bounds = np.cumsum([0, *(result.single_answers for result in results)])
    worse_rows: dict[int, list[int]] = {}
    dropped: dict[int, str] = {}
    used: set[int] = set()
    asked = plan.asked(keys, [result.number for result in results], np.diff(bounds))
    for group in _same_prompt(keys, asked == ASKED_TEST):
        distinct = _distinct(keys, group, dropped)
        for better, worse in _choose(keys, distinct, one.how, dropped, labelled=one.labelled):
            worse_rows.setdefault(better, []).append(worse)
            used |= {better, worse}

    def answer(row: int) -> Answer:
        piece = int(np.searchsorted(bounds, row, "right")) - 1
        return Answer(results[piece].number, int(row - bounds[piece]))

    tasks = []
    for piece, result in enumerate(results):
        rows = range(int(bounds[piece]), int(bounds[piece + 1]))
        pairs = [(answer(row), answer(worse)) for row in rows for worse in worse_rows.get(row, [])]
        lost = [(int(keys["line"][row]), dropped.get(row, "unpaired")) for row in rows if row not in used]
        tasks.append(PairingTask(result.number, rules[result.number], pairs, lost))
    return tasks


def write_pairs(task: PairingTask) -> PieceResult:
    """Write the pairs of a task and what is dropped, in the order of the lines, as the first round does."""
    answers = _Answers(task.rules)
    lines = _read_keys(task.rules.scratch, task.number)["line"]
    items: list[tuple[int, str | tuple[Answer, Answer]]] = [*task.dropped]
    items += [(int(lines[better.row]), (better, worse)) for better, worse in task.pairs]
    waiting = 0
    with PieceWriter(task.number, replace(task.rules, single=False), suffix=SECOND_ROUND) as writer:
        for line, item in sorted(items, key=lambda item: item[0]):
            try:
                if isinstance(item, str):
                    raise Rejection(item)
                pair = answers.pair(line, *item)
                messages = (*pair.example.prompt, *pair.example.chosen, *pair.example.rejected)
                size = sum(len(text) for message in messages for text in message.values())
                writer.add(pair)
                waiting += size
            except Rejection as rejection:
                writer.drop(line, rejection.reason, None)
            if waiting > BATCH_CHARACTERS:
                writer.flush()
                waiting = 0
    return writer.result


class _Answers:
    """Reads single answers of the first round, in any order."""

    def __init__(self, rules: Rules) -> None:
        self._scratch, self._scores = rules.scratch, rules.config.keep_scores and not rules.labelled
        self._open: dict[int, tuple[pa.ipc.RecordBatchFileReader, list[int], RowKeys]] = {}

    def pair(self, line: int, better: Answer, worse: Answer) -> Pair:
        """Return the pair of two answers to one prompt, with the kept columns of the better one."""
        key, prompt, chosen, _, extras, *kept = self._row(better)
        other, prompt_of_worse, rejected, _, extras_of_worse, *_ = self._row(worse)
        example = with_extras(PreferenceExample(prompt, chosen, []), extras)
        example.rejected = with_extras(PreferenceExample(prompt_of_worse, rejected, []), extras_of_worse).chosen
        if self._scores:
            kept[-len(SCORES) :] = [str(one["score"]) for one in (key, other)]  # shortest text of the float32
        return Pair(line, example, kept, None, int(key["changes"] | other["changes"]), split=int(key["split"]))

    def _row(self, answer: Answer) -> list[Any]:
        """Return the key of a row, and its values: prompt, answer, an empty list, extras, kept columns."""
        if answer.piece not in self._open:
            reader = pa.ipc.open_file(storage.map_arrow(scratch_file(self._scratch, answer.piece, "rows")))
            sizes = [reader.get_batch(i).num_rows for i in range(reader.num_record_batches)]
            keys = _read_keys(self._scratch, answer.piece)
            self._open[answer.piece] = reader, np.cumsum([0, *sizes])[:-1].tolist() or [0], keys
        reader, starts, keys = self._open[answer.piece]
        batch = int(np.searchsorted(starts, answer.row, "right")) - 1
        columns = reader.get_batch(batch).columns
        return [keys[answer.row], *(column[answer.row - starts[batch]].as_py() for column in columns)]


def _same_prompt(keys: RowKeys, test: npt.NDArray[np.bool_]) -> Iterator[list[int]]:
    """Yield the rows of each prompt that has several in a split, in order.

    The keys of single answers hash the prompt alone. `test`, bool (rows,), marks those of the test split.
    """
    order = np.lexsort((np.arange(len(keys)), test, keys["high"], keys["low"]))
    changes = [values[order][1:] != values[order][:-1] for values in (keys["low"], keys["high"], test)]
    starts = np.flatnonzero(np.any(changes, axis=0)) + 1
    for group in np.split(order, starts):
        if len(group) > 1:
            yield group.tolist()


def _distinct(keys: RowKeys, group: list[int], dropped: dict[int, str]) -> list[int]:
    """Return the first row of each answer; drop repeats, and every row of an answer that has several scores."""
    rows_of: dict[int, list[int]] = {}
    for row, answer in zip(group, keys["prompt"][group].tolist(), strict=True):
        rows_of.setdefault(answer, []).append(row)
    distinct = []
    for first, *others in rows_of.values():
        if len(set(keys["score"][[first, *others]].tolist())) > 1:
            dropped.update(dict.fromkeys([first, *others], "contradiction"))
        else:
            distinct.append(first)
            dropped.update(dict.fromkeys(others, "duplicate_row"))
    return distinct


def _choose(
    keys: RowKeys, rows: list[int], how: ConvertOptions, dropped: dict[int, str], *, labelled: bool
) -> Iterator[tuple[int, int]]:
    """Yield (better, worse) for the answers to one prompt, as `pair_up` says; drop answers too close in score."""
    scores = keys["score"][rows].tolist()
    if labelled:
        good = [row for row, score in zip(rows, scores, strict=True) if score > 0]
        bad = [row for row, score in zip(rows, scores, strict=True) if score <= 0]
        every = {"all": good, "best-each": good[:1]}.get(how.pairs)
        yield from zip(good, bad, strict=False) if every is None else product(every, bad)
        return
    for better, worse in how.candidates(scores):
        if reason := how.too_close(scores[better] - scores[worse]):
            dropped.setdefault(rows[better], reason)
            dropped.setdefault(rows[worse], reason)
        else:
            yield rows[better], rows[worse]


def _read_keys(scratch: str, piece: int) -> RowKeys:
    with storage.open_read(scratch_file(scratch, piece, "keys")) as stream:
        keys: RowKeys = np.frombuffer(stream.read(), ROW_KEY)
    return keys
