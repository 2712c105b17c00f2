"""Read the header of a GGUF file: metadata, tensor shapes, and whether the file is complete.

The format is described in ggml's docs/gguf.md. The package gguf has a reader too, but it is no dependency, and its
limits are not for files that anybody may have written.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import IO

MAGIC = b"GGUF"
VERSIONS = (2, 3)
NUMBERS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
"""How metadata of each type is packed, by its number."""
STRING, ARRAY = 8, 9
BLOCKS = {0: ("f32", 1, 4), 1: ("f16", 1, 2), 8: ("q8_0", 32, 34), 30: ("bf16", 1, 2)}
"""Name of each data type that hubdpo writes, values in a block, and bytes of a block, by its number."""
MOST_ENTRIES, MOST_ITEMS, LONGEST, MOST_DIMENSIONS = 100_000, 10_000_000, 1_000_000, 4
"""Most keys and tensors, most items of an array, longest text in bytes, and most dimensions of a tensor."""


@dataclass(frozen=True)
class Header:
    """Metadata that is a number or a text, by key, and the shape of each tensor, by name."""

    metadata: dict[str, int | float | bool | str]
    shapes: dict[str, tuple[int, ...]]

    @property
    def values(self) -> int:
        return sum(map(math.prod, self.shapes.values()))


def is_gguf(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(len(MAGIC)) == MAGIC


def read_gguf(path: Path) -> Header:
    """Return the header. Raise ValueError when the file is not GGUF, not complete, or has data of an unknown type."""
    with path.open("rb") as stream:
        if stream.read(len(MAGIC)) != MAGIC:
            raise ValueError("it is not a GGUF file")
        version = _number(stream, "<I")
        if version not in VERSIONS:
            raise ValueError(f"it is GGUF of version {version}")
        tensors, keys = _count(stream, MOST_ENTRIES), _count(stream, MOST_ENTRIES)
        metadata: dict[str, int | float | bool | str] = {}
        for _ in range(keys):
            key, value = _text(stream), _value(stream, int(_number(stream, "<I")))
            if value is not None:
                metadata[key] = value
        shapes, end = {}, 0
        for _ in range(tensors):
            name = _text(stream)
            shape = tuple(_count(stream, 2**48) for _ in range(_count(stream, MOST_DIMENSIONS, "<I")))
            kind, offset = int(_number(stream, "<I")), int(_number(stream, "<Q"))
            shapes[name], end = shape, max(end, offset + _bytes(name, shape, kind))
        alignment = int(metadata.get("general.alignment", 32))
        begin = -(-stream.tell() // alignment) * alignment
    size = path.stat().st_size
    if size < begin + end:
        raise ValueError(f"it is truncated: {size:,} bytes of {begin + end:,}")
    return Header(metadata, shapes)


def _bytes(name: str, shape: tuple[int, ...], kind: int) -> int:
    if kind not in BLOCKS:
        raise ValueError(f"`{name[:80]}` has data of the unknown type {kind}")
    _, values, size = BLOCKS[kind]
    return math.prod(shape) // values * size


def _value(stream: IO[bytes], kind: int) -> int | float | bool | str | None:
    """Read a value. An array is read to its end, and None is returned."""
    if kind == STRING:
        return _text(stream)
    if kind != ARRAY:
        return _number(stream, _packing(kind))
    items, count = int(_number(stream, "<I")), _count(stream, MOST_ITEMS)
    if items == STRING:
        for _ in range(count):
            stream.seek(_count(stream, LONGEST), 1)
    else:
        stream.seek(count * struct.calcsize(_packing(items)), 1)
    return None


def _packing(kind: int) -> str:
    if kind not in NUMBERS:
        raise ValueError(f"its metadata has the unknown type {kind}")
    return NUMBERS[kind]


def _number(stream: IO[bytes], packing: str) -> int | float | bool:
    value: int | float | bool = struct.unpack(packing, _read(stream, struct.calcsize(packing)))[0]
    return value


def _count(stream: IO[bytes], most: int, packing: str = "<Q") -> int:
    count = int(_number(stream, packing))
    if count > most:
        raise ValueError("a count in its header is out of bounds")
    return count


def _text(stream: IO[bytes]) -> str:
    return _read(stream, _count(stream, LONGEST)).decode("utf-8", "replace")


def _read(stream: IO[bytes], size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise ValueError("it is truncated within its header")
    return data
