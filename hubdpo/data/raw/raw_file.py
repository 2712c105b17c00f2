"""The kinds of raw files, and one file to read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from hubdpo import console
from hubdpo.artefacts.folders import storage
from hubdpo.artefacts.manifests.prepare import Source, split_in_memory
from hubdpo.data.raw.sources.state import State
from hubdpo.data.raw.split_names import Split

DELIMITED = (".csv", ".tsv")
TABLES = (".parquet", ".arrow")
KINDS = (".jsonl", ".ndjson", ".json", *DELIMITED, *TABLES)
PACKED = (".gz", ".zst")
ENDINGS = tuple(kind + packed for kind in KINDS for packed in ("", *PACKED))
READS = f"hubdpo reads {', '.join(KINDS)}, each also {' or '.join(PACKED)}"
STDIN = "stdin"
HEAD_BYTES = 1 << 16
"""Bytes at the beginning of a file that show its kind, encoding and layout."""


@dataclass(frozen=True)
class RawFile:
    """A file to read. Messages and manifests show `name`, never an absolute path."""

    path: str
    """Path or URL to read: a temporary copy if the file had to be unpacked or converted."""
    name: str
    original: str
    split: Split | None = None
    argument: str = ""
    """The command line argument that led to the file."""
    address: str | None = None
    """For a file on the Hub, the argument pinned to a commit: it gives the same files and splits again."""
    described: int = 0
    """Index of the description that the file's rows have, among those of the run."""
    number: int = 0
    """Index among all files; a file that is named twice is read twice."""
    encoding: str | None = None
    """The declared encoding of the text at `path`; None for UTF-8, a byte order mark that says it, and tables."""
    state: State = ()
    """State of `original` before the first read, to notice a change."""

    @property
    def kind(self) -> str:
        return Path(plain_name(self.path)).suffix.lower()

    @property
    def typed(self) -> str:
        """The path to type in the current directory, for commands in hints."""
        if self.name == STDIN or storage.is_url(self.original):
            return Path(self.name).name
        path = Path(self.original).absolute()
        return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else self.original

    @property
    def place(self) -> str:
        """The word before the number of a row, counted from 1: `line`, or `row` for rows in memory."""
        return "line" if split_in_memory(self.name) is None else "row"

    def head(self) -> bytes:
        """Read the first HEAD_BYTES of the file."""
        with storage.open_read(self.path) as stream:
            return stream.read(HEAD_BYTES)

    def source(self) -> Source:
        return Source(name=self.name, sha256=storage.sha256(self.original), size=storage.size_of(self.original))


def publishers(names: Iterable[str]) -> str:
    """List the files in which rows of a split were published; of rows in memory, the names of their splits."""
    return console.listed(f"`{split}`" if (split := split_in_memory(name)) else name for name in dict.fromkeys(names))


def plain_name(name: str) -> str:
    """Return a file name without `.gz` or `.zst`."""
    return next((name[: -len(ending)] for ending in PACKED if name.lower().endswith(ending)), name)
