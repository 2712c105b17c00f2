"""File entries of a manifest (path, size, hash), and their comparison with a folder."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path, PureWindowsPath
from typing import Annotated, TypeVar

from pydantic import AfterValidator, BaseModel, Field

from hubdpo.artefacts.manifests.accuracy import Count
from hubdpo.errors import ArtefactError

Names = TypeVar("Names", bound=Iterable[str])

MAX_PATH_LENGTH, MAX_PART_BYTES = 1_000, 255
"""Maximum characters of a path, and bytes of one of its parts, on every system."""

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class FileEntry(BaseModel):
    """Size in bytes and SHA-256 (hex) of a file."""

    sha256: Sha256
    size: Count


def reject_paths_outside(names: Names) -> Names:
    """Return `names` unchanged. Raise ValueError for a path that leads out of the folder."""
    for name in names:
        if not is_inside(name):
            raise ValueError(f"not a path inside the folder: {name[:100]!r}")
    return names


def is_inside(name: str) -> bool:
    """Tell whether a path with `/` separators stays in the folder: no `..`, not absolute, no drive, no backslash."""
    return (
        len(name) <= MAX_PATH_LENGTH
        and "\\" not in name
        and not any(ord(char) < 32 for char in name)
        and not PureWindowsPath(name).drive  # `C:name` leads to another folder on Windows
        and all(part not in ("", ".", "..") and len(part.encode()) <= MAX_PART_BYTES for part in name.split("/"))
    )


Files = Annotated[dict[str, FileEntry], AfterValidator(reject_paths_outside)]
"""Entries by path, relative to the folder and with `/` as separator."""
FileNames = Annotated[list[str], AfterValidator(reject_paths_outside)]


def sha256_file(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def file_entry(path: Path) -> FileEntry:
    return FileEntry(sha256=sha256_file(path), size=path.stat().st_size)


def bytes_entry(data: bytes) -> FileEntry:
    return FileEntry(sha256=hashlib.sha256(data).hexdigest(), size=len(data))


def verify_files(folder: Path, files: dict[str, FileEntry], *, hint: str) -> None:
    """Compare a folder with its manifest. Raise ArtefactError, naming the file, if a file is missing or was changed."""
    for name, entry in files.items():
        path = folder / name
        if not path.is_file():
            raise ArtefactError(f"`{name}` is missing from {folder}", hint=hint)
        if path.stat().st_size != entry.size or sha256_file(path) != entry.sha256:
            raise ArtefactError(f"`{name}` in {folder} was changed after it was written", hint=hint)
