"""A problem found in a card or an artefact."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hubdpo.artefacts.formats.bounded import shortened

FileContent = bytes | Path


@dataclass(frozen=True)
class Finding:
    """A problem of a front matter field or of a part of the body, and what to do about it."""

    field: str
    message: str
    hint: str | None = None

    def __post_init__(self) -> None:
        # they may quote texts of any length
        object.__setattr__(self, "field", shortened(self.field, 100))
        object.__setattr__(self, "message", shortened(self.message, 400))
        object.__setattr__(self, "hint", shortened(self.hint, 400) if self.hint else self.hint)
