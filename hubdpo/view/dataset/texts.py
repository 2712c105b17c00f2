"""The texts of a row group as flat arrays: their bytes, their lengths, and a small fingerprint of what they contain."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import orjson
import xxhash

from hubdpo.artefacts.formats.messages import COLUMNS

if TYPE_CHECKING:
    import pyarrow as pa

Counts = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
GRAM = 4
"""Bytes of the pieces whose occurrence is noted for each row group."""
BITS = 18
"""A row group has 2 ** BITS flags, each for the pieces with one hash: 32 kB."""
_FACTOR = np.uint32(2654435761)
"""Knuth's multiplicative hash: 2 ** 32 divided by the golden ratio."""


class Texts:
    """One message column of a row group.

    data    bytes: the texts of all rows, one after another, as they are
    ends    int64 (rows + 1,): the bytes of row i are ends[i]:ends[i + 1]
    inside  int64 (messages + 1,): the ends of single messages
    counts  int64 (rows + 1,): the messages of row i are counts[i]:counts[i + 1]
    """

    def __init__(self, column: pa.ChunkedArray) -> None:
        import pyarrow as pa

        array = column.combine_chunks()
        if isinstance(array, pa.ChunkedArray):  # older versions of pyarrow
            array = array.chunk(0)
        self.counts: Counts = np.asarray(array.offsets, np.int64) - array.offsets[0].as_py()
        messages = array.flatten()
        self.is_json = isinstance(messages, pa.ExtensionArray)
        self._roles = None if self.is_json else messages.field("role")
        self._content = messages.storage if self.is_json else messages.field("content")
        self.inside, self.data = _bytes_of(self._content)
        self.ends = self.inside[self.counts]

    def characters(self) -> npt.NDArray[np.int32]:
        """Return the characters of every row, int32 (rows,); of messages that are JSON, those of their content."""
        import pyarrow.compute as pc

        if self.is_json:
            lengths = np.array([len(orjson.loads(text).get("content") or "") for text in self._content.to_pylist()])
        else:
            lengths = np.asarray(pc.fill_null(pc.utf8_length(self._content), 0), np.int64)
        ends = np.concatenate([[0], np.cumsum(lengths)])[self.counts]
        characters: npt.NDArray[np.int32] = np.diff(ends).astype(np.int32)
        return characters

    def hashes(self) -> npt.NDArray[np.uint64]:
        """Return a hash of the messages of every row, with their roles and borders, uint64 (rows,)."""
        view, borders = memoryview(self.data), self.inside
        role_ends, roles = (np.zeros(len(borders), np.int64), b"") if self._roles is None else _bytes_of(self._roles)
        found = np.empty(len(self.counts) - 1, np.uint64)
        for row, (start, stop) in enumerate(zip(self.counts.tolist(), self.counts[1:].tolist(), strict=False)):
            hasher = xxhash.xxh3_64(view[borders[start] : borders[stop]])
            if stop - start > 1:  # one message has no border
                hasher.update(np.diff(borders[start : stop + 1]).tobytes())
            hasher.update(roles[role_ends[start] : role_ends[stop]])
            found[row] = hasher.intdigest()
        return found

    def text(self, row: int) -> str:
        """Return the text of a row, its messages one below the other."""
        messages = self._content.slice(self.counts[row], self.counts[row + 1] - self.counts[row]).to_pylist()
        if self.is_json:
            messages = [orjson.loads(message).get("content") for message in messages]
        return "\n".join(text or "" for text in messages)

    def rows_with(self, needle: bytes) -> set[int]:
        """Return the rows that contain these bytes, which are in lower case, in any ASCII case."""
        lower, found, at = self.data.lower(), set[int](), -1
        while (at := lower.find(needle, at + 1)) >= 0:
            row = int(np.searchsorted(self.ends, at, "right")) - 1
            if at + len(needle) <= self.ends[row + 1]:
                found.add(row)
                at = int(self.ends[row + 1]) - 1  # one place in a row is enough
        return found


def _bytes_of(strings: pa.StringArray) -> tuple[Counts, bytes]:
    import pyarrow as pa

    size = np.int64 if pa.types.is_large_string(strings.type) else np.int32
    _, offsets, data = strings.buffers()
    ends = np.frombuffer(offsets, size)[strings.offset : strings.offset + len(strings) + 1].astype(np.int64)
    if not len(ends) or data is None:
        return np.zeros(len(strings) + 1, np.int64), b""
    return ends - ends[0], data[ends[0] : ends[-1]].to_pybytes()


def read_texts(table: pa.Table) -> list[Texts]:
    return [Texts(table.column(name)) for name in COLUMNS]


def flags_of(texts: list[Texts]) -> npt.NDArray[np.uint8]:
    """Note which pieces of GRAM bytes the texts contain, in ASCII lower case, uint8 (2 ** BITS / 8,)."""
    flags = np.zeros(1 << BITS, np.bool_)
    for text in texts:
        lower = text.data.lower()
        for start in range(min(GRAM, max(len(lower) - GRAM + 1, 0))):
            length = (len(lower) - start) // GRAM
            flags[_hashed(np.frombuffer(lower, np.uint32, length, start))] = True
    return np.packbits(flags)


def needed_flags(needle: bytes) -> npt.NDArray[np.int64]:
    """Return the flags that texts with this needle have, int64 (flags,); none for one shorter than GRAM."""
    grams = [needle[at : at + GRAM] for at in range(len(needle) - GRAM + 1)]
    return np.unique(_hashed(np.frombuffer(b"".join(grams), np.uint32))).astype(np.int64)


def has_flags(packed: npt.NDArray[np.uint8], flags: npt.NDArray[np.int64]) -> Flags:
    """Tell which row groups have all of some flags, (groups,); `packed` is uint8 (groups, 2 ** BITS / 8)."""
    bits = packed[:, flags >> 3] >> (7 - (flags & 7)).astype(np.uint8) & 1
    has: Flags = np.all(bits != 0, axis=1)
    return has


def _hashed(grams: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
    return (grams * _FACTOR) >> np.uint32(32 - BITS)
