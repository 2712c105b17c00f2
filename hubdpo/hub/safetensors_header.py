"""The header of a safetensors file: what is in it, and whether the file is all there, told from its first bytes."""

from __future__ import annotations

import json
from pathlib import Path

LONGEST_HEADER = 100_000_000
"""Bytes, the limit of the safetensors format."""
LFS_POINTERS = (b"version https://git-lfs.github.com/spec/", b"version https://hawser.github.com/spec/")
"""How the text begins that git keeps in place of a large file (git-lfs, docs/spec.md)."""


def is_lfs_pointer(start: bytes) -> bool:
    """Tell whether a file that begins like this is what `git clone` leaves of a large one when git-lfs is not there."""
    return start.startswith(LFS_POINTERS)


def read_header(path: Path) -> dict[str, tuple[int, ...]]:
    """Return the shape of each tensor of a safetensors file by name.

    Raise ValueError when it has no such header or is shorter or longer than the header says, OSError when it cannot be
    read.
    """
    size = path.stat().st_size
    with path.open("rb") as stream:
        first = stream.read(64)
        if is_lfs_pointer(first):
            raise ValueError("it is a git-lfs pointer, and the file itself was never fetched")
        length = int.from_bytes(first[:8], "little")
        if not 0 < length <= LONGEST_HEADER:
            raise ValueError("the length of the header is out of bounds")
        stream.seek(8)
        text = stream.read(length)
    if len(text) < length:
        raise ValueError(f"it is cut short: {size:,} bytes, of a header of {length:,}")
    header = json.loads(text)
    try:
        header.pop("__metadata__", None)
        shapes = {name: tuple(map(int, facts["shape"])) for name, facts in header.items()}
        whole = 8 + length + max((int(facts["data_offsets"][1]) for facts in header.values()), default=0)
    except (KeyError, TypeError, AttributeError, IndexError):
        raise ValueError("the header is not one of safetensors") from None
    if size != whole:
        raise ValueError(f"it is {'cut short' if size < whole else 'too long'}: {size:,} bytes of {whole:,}")
    return shapes
