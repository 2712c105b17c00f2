"""Raw files: the kinds that hubdpo reads, and where each file is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hubdpo.artefacts.folders import storage
from hubdpo.artefacts.manifests.funnel import Source
from hubdpo.data.raw.sources.state import State
from hubdpo.data.raw.split_names import Split

DELIMITED = (".csv", ".tsv")
TABLES = (".parquet", ".arrow")
KINDS = (".jsonl", ".ndjson", ".json", *DELIMITED, *TABLES)
PACKED = (".gz", ".zst")
ENDINGS = tuple(kind + packed for kind in KINDS for packed in ("", *PACKED))
READS = f"hubdpo reads {', '.join(KINDS)}, each also {' or '.join(PACKED)}"


def plain_name(name: str) -> str:
    return next((name[: -len(ending)] for ending in PACKED if name.lower().endswith(ending)), name)


STDIN = "stdin"


@dataclass(frozen=True)
class RawFile:
    """One file to read: where it is (a path or URL), and the name that people see, never an absolute path."""

    path: str
    name: str
    original: str
    """The file as it was given: the same as `path` unless that was unpacked."""
    split: Split | None = None
    """The split that it was published in, where its name tells."""
    argument: str = ""
    """The source that it belongs to, as it was named on the command line."""
    address: str | None = None
    """The same, of what is on the Hub, by commit: to name it again gives the same files and splits."""
    number: int = 0
    """Its place among all files: a file that is named twice is read twice."""
    state: State = ()
    """What told of `original`, before anybody looked into it, that it is this file and no later one."""

    @property
    def kind(self) -> str:
        return Path(plain_name(self.path)).suffix.lower()

    @property
    def typed(self) -> str:
        """The path as it is typed where the command was run, for the command of a hint."""
        if self.name == STDIN or storage.is_url(self.original):
            return Path(self.name).name
        path = Path(self.original)
        here = Path.cwd()
        return str(path.absolute().relative_to(here)) if path.absolute().is_relative_to(here) else self.original

    def source(self) -> Source:
        return Source(name=self.name, sha256=storage.sha256(self.original), size=storage.size_of(self.original))


MOST_NAMES = 3


def listed(names: Sequence[str]) -> str:
    """Write a list of files, cut after MOST_NAMES."""
    more = f" and {len(names) - MOST_NAMES:,} more" if len(names) > MOST_NAMES else ""
    return ", ".join(names[:MOST_NAMES]) + more
