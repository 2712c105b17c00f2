"""The pairs of a dataset in its Parquet files, read a row group at a time, from a folder or from a Hub."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from hubdpo.artefacts.formats.parquet_footers import Footer, is_of_the_machine, read_footer, wrong_column
from hubdpo.console import counted
from hubdpo.errors import ArtefactError
from hubdpo.hub.snapshot import Snapshot
from hubdpo.view.page import known_problem

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

SHARD = re.compile(r"data/(?P<split>[\w.-]+?)-\d{5}-of-\d{5}\.parquet")
AGAIN = "restore the file, or prepare the data again"


@dataclass(frozen=True)
class Group:
    """A row group: its file, its number in there, and where its rows are in the split."""

    file: str
    number: int
    start: int
    rows: int

    @property
    def stop(self) -> int:
        return self.start + self.rows


class Table:
    """The rows of all splits whose files are whole; `problems` says what is wrong with others.

    Reading raises ArtefactError for a file that was damaged later.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot, self.ref = snapshot, snapshot.ref
        self.files: dict[str, list[str]] = {}
        for name in sorted(snapshot.files):
            if match := SHARD.fullmatch(name):
                self.files.setdefault(match["split"], []).append(name)
        self.problems: dict[str, str] = {}
        self._footers: dict[str, Footer] = {}
        self._groups: dict[str, list[Group]] = {}

    @cached_property
    def splits(self) -> dict[str, int]:
        """Number of rows by split, `train` first, of the splits that can be read."""
        manifest = self._snapshot.prepare
        for name in manifest.files if manifest else ():
            if (match := SHARD.fullmatch(name)) and name not in self._snapshot.files:
                self.problems.setdefault(match["split"], f"`{name}` is missing, which prepare.json lists")
        found = {}
        for split in sorted(self.files, key=lambda split: (split != "train", split)):
            try:
                rows = sum(group.rows for group in self.groups(split))
            except (ArtefactError, FileNotFoundError) as problem:
                told = known_problem(self.ref, problem)
                self.problems[split] = told.message if told else ""
                continue
            if split not in self.problems:
                found[split] = rows
                if manifest and manifest.splits.get(split) != rows:
                    listed = manifest.splits.get(split, 0)
                    self.problems[split] = f"the files have {counted(rows, 'row')}, and prepare.json counts {listed:,}"
        return found

    @cached_property
    def columns(self) -> list[str]:
        """Names of the columns: the pair, tools if there are any, and columns of text."""
        names: list[str] = self._footer(self.files[next(iter(self.splits))][0]).schema.names
        return names

    def groups(self, split: str) -> list[Group]:
        """Return the row groups of a split, in order."""
        if split not in self._groups:
            found, start = [], 0
            for file in self.files[split]:
                footer = self._footer(file).metadata
                for number in range(footer.num_row_groups):
                    found.append(Group(file, number, start, footer.row_group(number).num_rows))
                    start = found[-1].stop
            self._groups[split] = found
        return self._groups[split]

    def rows(self, split: str, numbers: Sequence[int]) -> list[dict[str, Any]]:
        """Return rows by their number in the split, as the dataset holds them; each row group is read once."""
        found: dict[int, dict[str, Any]] = {}
        wanted = [g for g in self.groups(split) if any(g.start <= number < g.stop for number in numbers)]
        for group, table in zip(wanted, self.read(wanted, self.columns), strict=True):
            for number in numbers:
                if group.start <= number < group.stop:
                    found[number] = table.slice(number - group.start, 1).to_pylist()[0]
        return [found[number] for number in numbers]

    def read(self, groups: Sequence[Group], columns: Sequence[str]) -> Iterator[pa.Table]:
        """Yield row groups, one at a time; neighbours in a file share its open stream."""
        import pyarrow as pa

        file: str | None = None
        opened: pq.ParquetFile | None = None
        try:
            for group in groups:
                if opened is None or file != group.file:
                    if opened is not None:
                        opened.close(force=True)
                    file, opened = group.file, self._open(group.file)
                try:
                    yield opened.read_row_group(group.number, columns=list(columns), use_threads=False)
                except (pa.ArrowException, OSError) as problem:
                    if is_of_the_machine(problem):
                        raise
                    raise ArtefactError(f"`{file}` is damaged: {str(problem).splitlines()[0]}", hint=AGAIN) from None
        finally:
            if opened is not None:
                opened.close(force=True)

    def _open(self, file: str) -> pq.ParquetFile:
        import pyarrow.parquet as pq

        return pq.ParquetFile(self._snapshot.open(file), metadata=self._footer(file).metadata)

    def _footer(self, file: str) -> Footer:
        if file not in self._footers:
            with self._snapshot.open(file) as stream:
                footer = read_footer(stream, file, hint=AGAIN)
            if problem := wrong_column(footer.schema, prepared=True):
                raise ArtefactError(f"`{file}` holds no pairs: {problem}", hint=AGAIN)
            self._footers[file] = footer
        return self._footers[file]
