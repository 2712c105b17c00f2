"""One thing that is wrong with a card or an artefact."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

FileContent = bytes | Path


@dataclass(frozen=True)
class Finding:
    """What is wrong with a field of the front matter, or with a part of the body, and what to do about it."""

    field: str
    message: str
    hint: str | None = None
