"""How far a file may unpack: one of a few kilobytes must not fill the disk or the memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hubdpo.artefacts.folders import storage
from hubdpo.errors import DataError

FREE = 64 * 2**20
"""Bytes that any file may unpack to, whatever its size."""
MOST_OF_TEXT = 200
"""Times its size that packed text may have: it packs 3 to 20 times."""
MOST_OF_TABLE = 1000
"""The same of a table. It says but once what is the same in many rows, which gives 100 times now and then; this is 10
times more, as it is for text."""
ROW, VALUE = 64, 8
"""Bytes that a row and a value count for at least: a billion empty ones take few bytes in a file, and much time."""
BATCH_BYTES = 256 * 2**20
"""Bytes that rows which are decoded at once may have."""
BATCH_ROWS = 256
"""Rows of Parquet that are decoded at once: more are not faster."""


class Budget:
    """Bytes that may still come out of a file, or out of a part of it."""

    def __init__(self, left: int, name: str, most: int) -> None:
        self._left, self._name, self._most = left, name, most

    @classmethod
    def of_text(cls, path: str, name: str) -> Budget:
        return cls(max(FREE, MOST_OF_TEXT * storage.size_of(path)), name, MOST_OF_TEXT)

    @classmethod
    def of_table(cls, packed: int, name: str, *, parts: int = 1) -> Budget:
        """Return the budget of one of `parts` of a table, which takes `packed` bytes of the file."""
        return cls(max(FREE // parts, MOST_OF_TABLE * packed), name, MOST_OF_TABLE)

    def spend(self, count: int) -> None:
        """Raise DataError when more than there may be has come out of the file, or will."""
        self._left -= count
        if self._left < 0:
            raise DataError(
                f"the file unpacks to more than {self._most:,} times its size: {self._name}",
                hint="unpack it by hand if that is right" if self._most == MOST_OF_TEXT else "write its rows as .jsonl",
            )


def group_budget(metadata: Any, group: int, name: str) -> Budget:
    """Return the budget of a row group of Parquet."""
    return Budget.of_table(_packed(metadata.row_group(group)), name, parts=metadata.num_row_groups)


def check_footer(metadata: Any, size: int, name: str) -> None:
    """Raise DataError for Parquet of `size` bytes whose footer tells of more than the file can hold in earnest."""
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    if sum(map(_packed, groups)) > size:
        raise DataError(
            f"the Parquet file is broken: {name}: its row groups take more bytes than the file has",
            hint="write or download it again",
        )
    budget = Budget.of_table(size, name)
    for group in groups:
        columns = [group.column(number) for number in range(group.num_columns)]
        told = [max(column.total_uncompressed_size, 0) + VALUE * column.num_values for column in columns]
        budget.spend(max(sum(told), ROW * group.num_rows))


def batch_rows(metadata: Any, group: int, stream: Any) -> int:
    """Return how many rows of a group to decode at once: each may hold the longest value of each dictionary."""
    columns = metadata.row_group(group)
    longest = sum(_dictionary_size(columns.column(number), stream) for number in range(columns.num_columns))
    return max(1, min(BATCH_ROWS, BATCH_BYTES // max(longest, 1)))


def rows_within(batch: Any, budget: Budget, rows: int) -> Iterator[Any]:
    """Give a batch in parts of at most `rows` rows and BATCH_BYTES, as they are once each value is written out."""
    shares = any(map(_shares, batch.schema.types))
    for start in range(0, batch.num_rows, rows):
        parts = [batch.slice(start, rows)]
        budget.spend(max(_size(parts[0], shares), ROW * parts[0].num_rows))
        while parts:
            part = parts.pop()
            if part.num_rows > 1 and _size(part, shares) > BATCH_BYTES:
                half = part.num_rows // 2
                parts += [part.slice(half), part.slice(0, half)]
            else:
                yield part


def _size(batch: Any, shares: bool) -> int:
    return sum(map(_written_out, batch.columns)) if shares else int(batch.nbytes)


def _shares(kind: Any) -> bool:
    """Tell whether values of a type may lie in memory once for many rows."""
    return (
        pa.types.is_dictionary(kind) or pa.types.is_string_view(kind) or pa.types.is_binary_view(kind)
        or any(_shares(kind.field(number).type) for number in range(kind.num_fields))
    )  # fmt: skip


def _packed(group: Any) -> int:
    return sum(max(group.column(number).total_compressed_size, 0) for number in range(group.num_columns))


def _dictionary_size(column: Any, stream: Any) -> int:
    """Return the bytes of a column's dictionary, unpacked: the second number of its page's header."""
    if not column.has_dictionary_page or column.dictionary_page_offset is None:
        return 0
    stream.seek(column.dictionary_page_offset)
    header = stream.read(16)
    # Thrift's compact protocol: a byte for a field of 32 bits, then its zigzag varint; first the kind of the page
    if header[:1] != b"\x15" or header[2:3] != b"\x15":
        return int(column.total_uncompressed_size)
    number = shift = 0
    for byte in header[3:8]:
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
    return number >> 1


def _written_out(column: Any) -> int:
    """Return the bytes of an array with each value written out: many rows may share one."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _lengths(column.dictionary, column.indices)
    if pa.types.is_string_view(kind) or pa.types.is_binary_view(kind):
        return int(pc.sum(pc.binary_length(column)).as_py() or 0) + VALUE * len(column)
    if pa.types.is_struct(kind):
        return sum(map(_written_out, column.flatten()))
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return _written_out(column.flatten()) + VALUE * len(column)
    return int(column.nbytes)


def _lengths(values: Any, indices: Any) -> int:
    """Return the bytes of the values that indices name, all of them together."""
    kind = values.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_binary(kind):
        return int(pc.sum(pc.take(pc.binary_length(values), indices)).as_py() or 0)
    return int(np.ceil(values.nbytes / max(len(values), 1))) * len(indices)
