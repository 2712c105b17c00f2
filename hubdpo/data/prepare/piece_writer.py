"""Check the pairs of one piece, and write them with their row keys and with what was dropped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Self

import numpy as np
import orjson
import pyarrow as pa

from hubdpo.artefacts.folders import storage
from hubdpo.artefacts.formats.messages import schema
from hubdpo.data.clean.keys import batch_digests, ids, row_keys
from hubdpo.data.clean.near_duplicates import pair_signatures
from hubdpo.data.clean.rows import clean, redact_credentials, suspects
from hubdpo.data.pairs.batch import KeptColumn, Pair, PairBatch
from hubdpo.data.pairs.example import REDACTED, Rejection, Row
from hubdpo.data.pairs.markers import MarkerCounts, count_markers
from hubdpo.data.pairs.message_column import text_array
from hubdpo.data.prepare.dropped import DroppedRow, dropped_line, is_error
from hubdpo.data.prepare.rules import Rules
from hubdpo.data.tokens.pair import measure
from hubdpo.data.tokens.tokenizer import encoder_of


@dataclass
class PieceResult:
    """Counts of what became of a piece. Its files are at `scratch_file(scratch, number, kind + suffix)`."""

    number: int
    suffix: str = ""
    lines: int = 0
    read: int = 0
    extra_pairs: int = 0
    """Pairs beyond the first of rows with several answers."""
    single_answers: int = 0
    """Rows with one answer, which the second round pairs up."""
    pairs: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    secrets: Counter[str] = field(default_factory=Counter)
    repaired: Counter[str] = field(default_factory=Counter)
    unused: Counter[str] = field(default_factory=Counter)
    """By column that was not read: rows that have a value in it."""
    listed: Counter[str] = field(default_factory=Counter)
    """By column: texts that look like a list of one text and were left as they are."""
    splits: Counter[int] = field(default_factory=Counter)
    """Rows written, by the code of the split in which they were published."""
    split_by_column: bool = False
    """Whether a column named the split of some rows."""
    no_split: Counter[str] = field(default_factory=Counter)
    """By value of the column that names splits, "" for none: rows for which it names none."""
    markers: MarkerCounts = field(default_factory=Counter)
    first_error: tuple[int, str] | None = None
    """Line and reason of the first row that the policies do not allow to drop."""


EXTRAS = "extras"
"""The column behind the messages in the Arrow file of a piece. Columns are found by position: a kept one may be
called the same."""


def scratch_file(scratch: str, number: int, kind: str) -> str:
    """Return the path of a file of a piece; `kind` is `rows`, `keys`, `near` or `dropped`."""
    return storage.join(scratch, f"{kind}-{number:06d}")


def read_dropped(scratch: str, number: int, suffix: str = "") -> Iterator[DroppedRow]:
    """Yield the dropped rows of a piece, in the order of their lines."""
    with storage.open_read(scratch_file(scratch, number, "dropped" + suffix)) as stream:
        for line in stream:
            yield orjson.loads(line)


class PieceWriter:
    """Collects pairs and dropped rows, and appends them to the files of a piece at each `flush`.

    Call `add`, `add_batch` and `drop` in the order of the lines. Single pairs are checked in full when they are added
    if a tokenizer or the search for credentials must see them; all others when they are flushed, many at a time.
    """

    def __init__(self, number: int, rules: Rules, *, suffix: str = "") -> None:
        self.result = PieceResult(number, suffix)
        self._rules, self._config = rules, rules.config
        self._encoder = encoder_of(rules.model) if rules.model is not None else None
        self._scan = rules.config.scan == "secrets"
        self._batches: list[PairBatch] = []
        self._pairs: list[Pair] = []
        """Single pairs since the last of the batches."""
        self._dropped: list[tuple[int, bytes]] = []
        self._open = ExitStack()

    @property
    def checks_single_pairs(self) -> bool:
        """Whether pairs must be added one by one."""
        return self._encoder is not None or self._scan

    def __enter__(self) -> Self:
        def path(kind: str) -> str:
            return scratch_file(self._rules.scratch, self.result.number, kind + self.result.suffix)

        self._schema = schema([EXTRAS, *(self._rules.keep if self._rules.single else self._rules.columns())])
        rows = self._open.enter_context(storage.open_arrow(path("rows")))
        self._rows = self._open.enter_context(pa.ipc.new_file(rows, self._schema))
        kinds = ("keys", "dropped", "near") if self._config.dedupe == "near" else ("keys", "dropped")
        self._files = {kind: self._open.enter_context(storage.open_write(path(kind))) for kind in kinds}
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        with self._open:
            if kind is None:
                self.flush()

    def add(self, pair: Pair) -> None:
        """Take one pair. Raise Rejection if a check finds at once that it cannot be kept."""
        if self.checks_single_pairs and not self._rules.single:
            self._check(pair)
        self._pairs.append(pair)

    def add_batch(self, batch: PairBatch) -> None:
        """Take pairs that were converted together."""
        self._batch_pairs()
        self._batches.append(batch)

    def _batch_pairs(self) -> None:
        if self._pairs:
            self._batches.append(PairBatch.from_pairs(self._pairs, len(self._rules.keep)))
            self._pairs = []

    def drop(self, line: int, reason: str, row: Row | None, detail: str = "") -> None:
        """Count a row or pair as dropped, and note where it is."""
        self.result.dropped[reason] += 1
        self._dropped.append((line, dropped_line(line, reason, row, detail, scan=self._scan)))
        first = self.result.first_error
        if is_error(reason, self._config) and (first is None or line < first[0]):
            self.result.first_error = (line, reason)

    def flush(self) -> None:
        """Clean and write what was collected, and the dropped rows in the order of their lines."""
        self._batch_pairs()
        if self._batches:
            batch = PairBatch.concat(self._batches)
            self._batches = []
            batch = batch if self._rules.single else self._cleaned(batch)
            if batch.lines:
                self._write(batch)
        self._dropped.sort(key=lambda entry: entry[0])
        self._files["dropped"].write(b"".join(text for _, text in self._dropped))
        self._dropped = []

    def _check(self, pair: Pair) -> None:
        pair.changes |= clean(pair.example)
        if self._scan and (found := redact_credentials(pair.example, pair.kept)):
            self.result.secrets.update(found)
            if not self._config.redact:
                raise Rejection("secret_found")
            clean(pair.example)  # answers that differed only in a credential are equal now
            pair.changes |= REDACTED
        if self._encoder is not None:
            limit = self._config.max_length if isinstance(self._config.max_length, int) else None
            pair.lengths = measure(pair.example, self._encoder, max_length=limit, over_length=self._config.over_length)
            pair.changes |= pair.lengths.changes

    def _cleaned(self, batch: PairBatch) -> PairBatch:
        """Clean the suspicious pairs of a batch, and return the batch without those that are dropped."""
        keep = np.ones(len(batch.lines), bool)
        checked = suspects(*batch.columns)
        if any(batch.extras):  # which `suspects` does not look at
            checked = np.union1d(checked, np.flatnonzero(list(map(bool, batch.extras))))
        for index in checked.tolist():
            example = batch.example(index)
            try:
                changes = clean(example)
            except Rejection as rejection:
                keep[index] = False
                self.drop(batch.lines[index], rejection.reason, batch.values[index])
                continue
            if changes:
                batch.changes[index] |= changes
                batch.columns.chosen.set_first(index, example.chosen[0]["content"])
                batch.columns.rejected.set_first(index, example.rejected[0]["content"])
        return batch if keep.all() else batch.filter(keep)

    def _write(self, batch: PairBatch) -> None:
        rules, texts, hashes = self._rules, [*batch.kept], batch_digests(batch)
        if rules.ids and not rules.single:
            texts[:0] = map(ids, hashes)
        if rules.named and not rules.single:
            texts.append([rules.source.name] * len(batch.lines))
        extras: KeptColumn = [*batch.extras] if any(batch.extras) else [b""] * len(batch.lines)  # bytes are faster
        arrays = [*(column.to_arrow() for column in batch.columns), *map(text_array, (extras, *texts))]
        self._rows.write_batch(pa.RecordBatch.from_arrays(arrays, schema=self._schema))
        self._files["keys"].write(row_keys(batch, hashes, single=rules.single).tobytes())
        self.result.splits.update(batch.splits)
        if self._rules.single:
            self.result.single_answers += len(batch.lines)
            return
        self.result.pairs += len(batch.lines)
        self.result.markers.update(count_markers(batch.columns, batch.extras))
        if self._config.dedupe == "near":
            for index in range(len(batch.lines)):
                self._files["near"].write(pair_signatures(batch.example(index)).tobytes())
