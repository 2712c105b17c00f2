"""The header of a safetensors file: what is in it, and whether the file is all there, told from its first bytes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from hubdpo.artefacts.formats.bounded import parse_json
from hubdpo.errors import ArtefactError

LONGEST_HEADER = 25_000_000
"""Bytes. The format allows four times as many, and Python takes 1 GB for those; 200,000 tensors fit into these."""
BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E5M2": 1, "F8_E4M3": 1, "F8_E8M0": 1, "I16": 2, "U16": 2, "F16": 2, "BF16": 2,
    "I32": 4, "U32": 4, "F32": 4, "I64": 8, "U64": 8, "F64": 8, "C64": 8,
}  # fmt: skip
"""Of one value; types that take less than a byte are not among them."""
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
    header = parse_json(text)
    if not isinstance(header, dict):
        raise ValueError("the header is not one of safetensors")
    header.pop("__metadata__", None)
    spans = sorted(_span(name, facts) for name, facts in header.items())
    end = 0
    for start, stop, name in spans:
        if start != end:
            raise ValueError(f"the bytes of {name[:80]!r} do not follow those of the tensor before")
        end = stop
    whole = 8 + length + end
    if size != whole:
        raise ValueError(f"it is {'cut short' if size < whole else 'too long'}: {size:,} bytes of {whole:,}")
    return {name: tuple(facts["shape"]) for name, facts in header.items()}


def _span(name: str, facts: Any) -> tuple[int, int, str]:
    """Return where the bytes of a tensor start and stop. Raise ValueError unless they hold its shape."""
    told = facts if isinstance(facts, dict) else {}
    shape, offsets = _counts(told.get("shape")), _counts(told.get("data_offsets"))
    if len(offsets) != 2 or offsets[0] > offsets[1]:
        raise ValueError("the header is not one of safetensors")
    each = BYTES.get(str(told.get("dtype")))
    if each is not None and offsets[1] - offsets[0] != each * math.prod(shape):
        raise ValueError(f"{name[:80]!r} has {offsets[1] - offsets[0]:,} bytes, which is not what its shape takes")
    return offsets[0], offsets[1], name


def _counts(value: Any) -> list[int]:
    if not isinstance(value, list) or not all(type(part) is int and part >= 0 for part in value):
        raise ValueError("the header is not one of safetensors")
    return value


def read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Return the shape of each tensor from the header of a safetensors file. Raise ArtefactError when it has none."""
    try:
        return read_header(path)
    except (OSError, ValueError) as problem:
        raise ArtefactError(
            f"`{path.name}` is no safetensors file: {problem}", hint="run `hubdpo train` again"
        ) from None
