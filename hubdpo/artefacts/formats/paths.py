"""Names of files in a folder that may be anybody's: they must not lead out of it, on any system."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PureWindowsPath
from typing import TypeVar

Names = TypeVar("Names", bound=Iterable[str])

LONGEST, LONGEST_PART = 1_000, 255
"""Characters of a path, and bytes of one of its parts, that every system takes."""


def inside(names: Names) -> Names:
    """Return `names`, paths with `/` between the parts, as they are. Raise ValueError for one that leads outside."""
    for name in names:
        if not is_inside(name):
            raise ValueError(f"not a place in the folder: {name[:100]!r}")
    return names


def is_inside(name: str) -> bool:
    """Tell whether a path stays in the folder: no `..`, not absolute, no drive, nothing that a system reads as such."""
    return (
        len(name) <= LONGEST
        and "\\" not in name
        and not any(ord(char) < 32 for char in name)
        and not PureWindowsPath(name).drive  # `C:name` leads to another folder on Windows
        and all(part not in ("", ".", "..") and len(part.encode()) <= LONGEST_PART for part in name.split("/"))
    )
