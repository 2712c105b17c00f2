"""What was read and what became of it, counted: for all rows together, and for each source."""

from __future__ import annotations

from pydantic import BaseModel, Field

from hubdpo.artefacts.manifests.accuracy import Count

IN_MEMORY = "rows in memory"
"""Name of a source that is no file; for rows of several splits `rows in memory (SPLIT)`."""


class Source(BaseModel):
    """One raw input: its name as shown to people (never an absolute path), bytes and hash as read.

    The rest says what was made of it, which folders of earlier versions do not say: `split` is the one it was published
    in, where that was kept; `kept` counts the pairs whose better answer it gave. `address` is what
    named it on the Hub, by commit: a repo, one of its configurations, a folder or the file itself.
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

    @property
    def in_memory(self) -> bool:
        """Whether the rows were handed to `prepare` from Python. Names of files end with their kind."""
        return self.name == IN_MEMORY or (self.name.startswith(f"{IN_MEMORY} (") and self.name.endswith(")"))

    def identity(self) -> dict[str, str | int]:
        """Return what tells this input from another one."""
        return {"name": self.name, "sha256": self.sha256, "size": self.size}


KINDS = {
    "template": "marks of a chat template",
    "speakers": "names of speakers",
    "tool_calls": "tool calls or their results",
    "media": "placeholders of pictures, video or sound",
    "repeats": "their prompt once more",
}
"""What marks in a text mark, by kind, in words."""


class Markers(BaseModel):
    """Texts that hold marks of one kind: how many pairs have one, and how many have each."""

    rows: Count
    markers: dict[str, Count]


class Funnel(BaseModel):
    """Every row that was read is either kept or dropped for one named reason.

    Rows and pairs are counted alike: `added` are the further pairs that rows with several answers gave, `joined` the
    rows that became the second answer of another row's pair.
    """

    read: Count
    kept: Count
    dropped: dict[str, Count] = Field(default_factory=dict)
    added: Count = 0
    joined: Count = 0

    def adds_up(self) -> bool:
        return self.read + self.added == self.kept + self.joined + sum(self.dropped.values())
