"""Files by size and hash: how a manifest lists them, and whether a folder still has them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, Field

from hubdpo.artefacts.formats.paths import inside
from hubdpo.artefacts.manifests.accuracy import Count
from hubdpo.errors import ArtefactError

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class FileEntry(BaseModel):
    """Size in bytes and SHA-256 (hex) of one file."""

    sha256: Sha256
    size: Count


Files = Annotated[dict[str, FileEntry], AfterValidator(inside)]
"""Entries by their path in the folder, with `/` between the parts."""
FileNames = Annotated[list[str], AfterValidator(inside)]


def sha256_file(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def file_entry(path: Path) -> FileEntry:
    return FileEntry(sha256=sha256_file(path), size=path.stat().st_size)


def bytes_entry(data: bytes) -> FileEntry:
    return FileEntry(sha256=hashlib.sha256(data).hexdigest(), size=len(data))


def verify_files(folder: Path, files: dict[str, FileEntry], *, hint: str) -> None:
    """Compare a folder with its manifest. Raise ArtefactError, naming the file, when one is missing or was changed."""
    for name, entry in files.items():
        path = folder / name
        if not path.is_file():
            raise ArtefactError(f"`{name}` is missing from {folder}", hint=hint)
        if path.stat().st_size != entry.size or sha256_file(path) != entry.sha256:
            raise ArtefactError(f"`{name}` in {folder} was changed after it was written", hint=hint)
