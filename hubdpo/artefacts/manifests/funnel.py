"""Count rows read, kept and dropped, in total and per source."""

from __future__ import annotations

import re

from pydantic import BaseModel, Field

from hubdpo.artefacts.manifests.accuracy import Count

IN_MEMORY = "rows in memory"
"""Name of a source that is no file; for rows of several splits `rows in memory (SPLIT)`."""


def split_in_memory(name: str) -> str | None:
    """Return the split of rows that were handed to `prepare` from Python, "" if they had none, and None for a file."""
    match = re.fullmatch(rf"{IN_MEMORY}(?: \((.*)\))?", name, re.DOTALL)
    return match and (match[1] or "")


class Source(BaseModel):
    """A raw input: its name (never an absolute path), size and hash, and what became of its rows.

    `split` is the published split, if splits were kept; `kept` counts the pairs whose chosen answer it gave; `address`
    is its place on the Hub at a commit: a repo, a configuration, a folder or a file. The fields with a default are
    missing from manifests of earlier versions.
    """

    name: str
    sha256: str
    size: Count
    converter: str | None = None
    split: str | None = None
    read: Count | None = None
    kept: Count | None = None
    address: str | None = None
    dropped: dict[str, Count] = Field(default_factory=dict)

    def identity(self) -> dict[str, str | int]:
        """Return the fields that identify the input."""
        return {"name": self.name, "sha256": self.sha256, "size": self.size}


KINDS = {
    "template": "marks of a chat template",
    "speakers": "names of speakers",
    "tool_calls": "tool calls or their results",
    "media": "placeholders of pictures, video or sound",
    "repeats": "their prompt once more",
}
"""Kinds of markers in texts, in words."""


class Markers(BaseModel):
    """How many pairs contain markers of one kind, and how many contain each marker."""

    rows: Count
    markers: dict[str, Count]


class Funnel(BaseModel):
    """Every row that was read is either kept, or dropped for one named reason.

    A row counts as one pair. `added` counts the further pairs of rows with several answers, and `joined` the rows that
    became the second answer of another row's pair.
    """

    read: Count
    kept: Count
    dropped: dict[str, Count] = Field(default_factory=dict)
    added: Count = 0
    joined: Count = 0

    def adds_up(self) -> bool:
        return self.read + self.added == self.kept + self.joined + sum(self.dropped.values())
