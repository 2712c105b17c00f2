"""Read the header of a safetensors file: tensor names and shapes, and whether the file is complete.

huggingface_hub and safetensors have readers too, but this module lies below them, and its limits hold for files that
anybody may have written.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import IO, NamedTuple

from hubdpo.artefacts.formats.bounded import parse_json
from hubdpo.errors import ArtefactError

MAX_HEADER_BYTES = 25_000_000
"""The format allows 100 MB, which take 1 GB of memory in Python. 200,000 tensors fit into this limit."""
ITEM_BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E5M2": 1, "F8_E4M3": 1, "F8_E8M0": 1, "I16": 2, "U16": 2, "F16": 2, "BF16": 2,
    "I32": 4, "U32": 4, "F32": 4, "I64": 8, "U64": 8, "F64": 8, "C64": 8,
}  # fmt: skip
"""Bytes of a value, by data type; types smaller than a byte are missing."""
LFS_POINTERS = (b"version https://git-lfs.github.com/spec/", b"version https://hawser.github.com/spec/")
"""First line of the text that git keeps instead of a large file (git-lfs, docs/spec.md)."""


def is_lfs_pointer(start: bytes) -> bool:
    """Tell whether a file is a git-lfs pointer, as `git clone` leaves it without git-lfs."""
    return start.startswith(LFS_POINTERS)


class Tensor(NamedTuple):
    """A tensor by the header of its file; its bytes begin at `start` of the data, and are `size`."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    size: int


def read_header(path: Path) -> dict[str, tuple[int, ...]]:
    """Return the shape of each tensor of a safetensors file, by name.

    Raise ValueError for an invalid header or a file whose size differs from it, OSError if the file cannot be read.
    """
    with path.open("rb") as stream:
        return {name: tensor.shape for name, tensor in read_tensors(stream, path.stat().st_size).items()}


def read_tensors(stream: IO[bytes], size: int) -> dict[str, Tensor]:
    """Return the tensors of an open file of `size` bytes, in the order of its header. Raise what `read_header` does."""
    first = stream.read(64)
    if is_lfs_pointer(first):
        raise ValueError("it is a git-lfs pointer; the file itself was not fetched")
    length = int.from_bytes(first[:8], "little")
    if not 0 < length <= MAX_HEADER_BYTES:
        raise ValueError("the length of the header is out of bounds")
    stream.seek(8)
    text = stream.read(length)
    if len(text) < length:
        raise ValueError(f"it is truncated: {size:,} bytes, with a header of {length:,}")
    header = parse_json(text)
    if not isinstance(header, dict):
        raise ValueError("the header is not valid")
    header.pop("__metadata__", None)
    tensors = {name: _tensor(name, facts) for name, facts in header.items()}
    end = 0
    for start, size_of, name in sorted((each.start, each.size, name) for name, each in tensors.items()):
        if start != end:
            raise ValueError(f"the bytes of {name[:80]!r} do not follow those of the previous tensor")
        end += size_of
    whole = 8 + length + end
    if size != whole:
        raise ValueError(f"it is {'truncated' if size < whole else 'too long'}: {size:,} bytes of {whole:,}")
    return tensors


def _tensor(name: str, facts: object) -> Tensor:
    """Raise ValueError if the number of its bytes does not fit its shape."""
    entry = facts if isinstance(facts, dict) else {}
    dtype, shape, offsets = str(entry.get("dtype")), _counts(entry.get("shape")), _counts(entry.get("data_offsets"))
    if len(offsets) != 2 or offsets[0] > offsets[1]:
        raise ValueError("the header is not valid")
    size, item = offsets[1] - offsets[0], ITEM_BYTES.get(dtype)
    if item is not None and size != item * math.prod(shape):
        raise ValueError(f"{name[:80]!r} has {size:,} bytes, which does not fit its shape")
    return Tensor(dtype, tuple(shape), offsets[0], size)


def _counts(value: object) -> list[int]:
    if not isinstance(value, list) or not all(type(part) is int and part >= 0 for part in value):
        raise ValueError("the header is not valid")
    return value


def read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Return the shape of each tensor of a safetensors file. Raise ArtefactError if it cannot be read."""
    try:
        return read_header(path)
    except (OSError, ValueError) as problem:
        raise ArtefactError(
            f"`{path.name}` is not a safetensors file: {problem}", hint="fetch or make the folder again"
        ) from None
