"""Limit how far a file unpacks: a file of a few kilobytes must not fill the disk or the memory."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from hubdpo.artefacts.folders import storage
from hubdpo.errors import DataError

FREE = 64 * 2**20
"""Bytes that any file may unpack to, however small it is."""
MOST_OF_TEXT = 200
"""Times its size that compressed text may unpack to. Real text compresses 3 to 20 times."""
MOST_OF_TABLE = 1000
"""Times its size that a table may unpack to. A table stores repeated values once: now and then 100 times."""
ROW, VALUE = 64, 8
"""Bytes that a row and a value count at least: a billion empty ones take few bytes in a file, and much time."""
BATCH_BYTES = 256 * 2**20
"""Bytes of rows that are decoded at once."""
BATCH_ROWS = 256
"""Rows of Parquet that are decoded at once; more are not faster."""
FILE_HEAD = 8
"""Bytes of an Arrow file before the stream inside it: magic and padding."""
_RECORD_BATCH, _DICTIONARY_BATCH = 3, 2
_HEADER_TYPE, _HEADER = 1, 2
"""Fields of a Message."""
_DATA, _BUFFERS, _COMPRESSION = 1, 2, 3
"""Fields: of a DictionaryBatch its RecordBatch, and two of a RecordBatch."""


class Budget:
    """Bytes that may still be unpacked from a file, or from a part of it."""

    def __init__(self, left: int, name: str, most: int) -> None:
        self._left, self._name, self._most = left, name, most

    @classmethod
    def of_text(cls, path: str, name: str) -> Budget:
        return cls(max(FREE, MOST_OF_TEXT * storage.size_of(path)), name, MOST_OF_TEXT)

    @classmethod
    def of_table(cls, packed: int, name: str, *, parts: int = 1) -> Budget:
        """Return the budget of one of `parts` of a table that takes `packed` bytes of the file."""
        return cls(max(FREE // parts, MOST_OF_TABLE * packed), name, MOST_OF_TABLE)

    def spend(self, count: int) -> None:
        """Subtract unpacked bytes. Raise DataError if the budget is exceeded."""
        self._left -= count
        if self._left < 0:
            raise DataError(
                f"the file unpacks to more than {self._most:,} times its size: {self._name}",
                hint="unpack it by hand if that is right" if self._most == MOST_OF_TEXT else "write its rows as .jsonl",
            )


def check_footer(metadata: pq.FileMetaData, size: int, name: str) -> None:
    """Raise DataError if the footer of a Parquet file of `size` bytes promises more than the file can hold."""
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    if sum(map(_packed_bytes, groups)) > size:
        raise DataError(
            f"the Parquet file is broken: {name}: its row groups take more bytes than the file has",
            hint="write or download it again",
        )
    budget = Budget.of_table(size, name)
    for group in groups:
        columns = [group.column(number) for number in range(group.num_columns)]
        sizes = [max(column.total_uncompressed_size, 0) + VALUE * column.num_values for column in columns]
        budget.spend(max(sum(sizes), ROW * group.num_rows))


def batch_rows(metadata: pq.FileMetaData, group: int, stream: IO[bytes]) -> int:
    """Return how many rows of a group to decode at once.

    Each row may hold the longest value of each dictionary, which is at most the whole dictionary.
    """
    columns = metadata.row_group(group)
    longest = sum(_dictionary_bytes(columns.column(number), stream) for number in range(columns.num_columns))
    return max(1, min(BATCH_ROWS, BATCH_BYTES // max(longest, 1)))


def parquet_batches(
    table: pq.ParquetFile, group: int, stream: IO[bytes], name: str, columns: list[str] | None = None
) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a row group; `stream` is open on the same file."""
    budget = Budget.of_table(_packed_bytes(table.metadata.row_group(group)), name, parts=table.num_row_groups)
    rows = batch_rows(table.metadata, group, stream)
    for batch in table.iter_batches(rows, row_groups=[group], columns=columns):
        yield from rows_within(batch, budget, rows)


def rows_within(batch: pa.RecordBatch, budget: Budget, rows: int) -> Iterator[pa.RecordBatch]:
    """Yield a batch in parts of at most `rows` rows and BATCH_BYTES, counting shared values each time they occur."""
    shares = any(map(_shares_values, batch.schema.types))
    for start in range(0, batch.num_rows, rows):
        parts = [batch.slice(start, rows)]
        budget.spend(max(_bytes_of(parts[0], shares), ROW * parts[0].num_rows))
        while parts:
            part = parts.pop()
            if part.num_rows > 1 and _bytes_of(part, shares) > BATCH_BYTES:
                half = part.num_rows // 2
                parts += [part.slice(half), part.slice(0, half)]
            else:
                yield part


def _bytes_of(batch: pa.RecordBatch, shares: bool) -> int:
    return sum(map(_written_out_bytes, batch.columns)) if shares else int(batch.nbytes)


def _shares_values(kind: pa.DataType) -> bool:
    """Return whether several rows may refer to the same bytes in memory."""
    return (
        pa.types.is_dictionary(kind) or pa.types.is_string_view(kind) or pa.types.is_binary_view(kind)
        or any(_shares_values(kind.field(number).type) for number in range(kind.num_fields))
    )  # fmt: skip


def _packed_bytes(group: pq.RowGroupMetaData) -> int:
    return sum(max(group.column(number).total_compressed_size, 0) for number in range(group.num_columns))


def _dictionary_bytes(column: pq.ColumnChunkMetaData, stream: IO[bytes]) -> int:
    """Return the unpacked bytes of a column's dictionary, from its page header."""
    if not column.has_dictionary_page or column.dictionary_page_offset is None:
        return 0
    stream.seek(column.dictionary_page_offset)
    header = stream.read(16)
    # PageHeader in Thrift's compact protocol: field 1 is the page type, field 2 the unpacked size. A field is the byte
    # 0x15 (next field, int32) and a zigzag varint, 7 bits per byte, the lowest first.
    if header[:1] != b"\x15" or header[2:3] != b"\x15":
        return int(column.total_uncompressed_size)
    number = shift = 0
    for byte in header[3:8]:
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
    return number >> 1


def _written_out_bytes(column: pa.Array) -> int:
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _bytes_of_indexed(column.dictionary, column.indices)
    if pa.types.is_string_view(kind) or pa.types.is_binary_view(kind):
        return int(pc.sum(pc.binary_length(column)).as_py() or 0) + VALUE * len(column)
    if pa.types.is_struct(kind):
        return sum(map(_written_out_bytes, column.flatten()))
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return _written_out_bytes(column.flatten()) + VALUE * len(column)
    return int(column.nbytes)


def _bytes_of_indexed(values: pa.Array, indices: pa.Array) -> int:
    kind = values.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_binary(kind):
        return int(pc.sum(pc.take(pc.binary_length(values), indices)).as_py() or 0)
    return int(np.ceil(values.nbytes / max(len(values), 1))) * len(indices)


def unpacked_sizes(source: pa.NativeFile, *, is_file: bool) -> Iterator[int]:
    """Yield the bytes of each batch and dictionary of an Arrow file or stream, unpacked, from its headers.

    Arrow unpacks a batch as a whole. The headers are flatbuffers (Message.fbs of the Arrow format): a table in them
    begins with the offset of its vtable, a uint16 per field; only the fields that locate the buffers of a batch are
    followed. Raise pa.ArrowException for other data.
    """
    source.seek(FILE_HEAD if is_file else 0)
    for message in pa.ipc.MessageReader.open_stream(source):
        if message.body is not None:
            yield _unpacked_size(memoryview(message.metadata), memoryview(message.body))


def _unpacked_size(head: memoryview, body: memoryview) -> int:
    """Return the unpacked bytes of a message, or its bytes if the header is damaged: Arrow will refuse it."""
    try:
        message = _follow(head, 0)
        kind = _field(head, message, _HEADER_TYPE)
        batch = _follow(head, _field(head, message, _HEADER))
        if kind is not None and head[kind] == _DICTIONARY_BATCH:
            batch = _follow(head, _field(head, batch, _DATA))
        elif kind is None or head[kind] != _RECORD_BATCH:
            return len(body)
        if _field(head, batch, _COMPRESSION) is None:
            return len(body)
        # a vector of Buffer structs: uint32 count, then int64 offset and int64 length each
        buffers = _follow(head, _field(head, batch, _BUFFERS))
        (count,) = struct.unpack_from("<I", head, buffers)
        total = 0
        for number in range(count):
            offset, length = struct.unpack_from("<qq", head, buffers + 4 + 16 * number)
            if length >= 8:  # the unpacked size comes first, or -1 if the buffer is stored unpacked
                (size,) = struct.unpack_from("<q", body, offset)
                total += size if size >= 0 else length
    except (struct.error, IndexError):
        return len(body)
    return total


def _follow(head: memoryview, position: int | None) -> int:
    """Return the position to which the relative offset at a position leads. Raise IndexError for a missing field."""
    if position is None:
        raise IndexError
    return position + int(struct.unpack_from("<I", head, position)[0])


def _field(head: memoryview, table: int, number: int) -> int | None:
    vtable = table - int(struct.unpack_from("<i", head, table)[0])
    (size,) = struct.unpack_from("<H", head, vtable)
    entry = 4 + 2 * number  # behind the sizes of vtable and table
    offset = int(struct.unpack_from("<H", head, vtable + entry)[0]) if entry < size else 0
    return table + offset if offset else None
