"""Names of files in a folder that may be anybody's: they must not lead out of it."""

from __future__ import annotations

from typing import TypeVar

V = TypeVar("V")


def inside(files: dict[str, V]) -> dict[str, V]:
    """Return `files`, keyed by path with `/` between the parts. Raise ValueError for a path that leads outside."""
    for name in files:
        if "\\" in name or "\0" in name or any(part in ("", ".", "..") for part in name.split("/")):
            raise ValueError(f"not a place in the folder: {name!r}")
    return files
