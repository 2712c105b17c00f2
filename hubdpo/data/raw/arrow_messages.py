"""Read from the headers of an Arrow file or stream how much each batch unpacks to. Arrow unpacks a batch as a whole.

The headers are flatbuffers (Message.fbs of the Arrow format). A table in them begins with the offset of its vtable, a
uint16 per field; only the fields that locate the buffers of a batch are followed.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pyarrow as pa

FILE_HEAD = 8
"""Bytes of an Arrow file before the stream inside it: magic and padding."""
_RECORD_BATCH, _DICTIONARY_BATCH = 3, 2
_HEADER_TYPE, _HEADER = 1, 2
"""Fields of a Message."""
_DATA, _BUFFERS, _COMPRESSION = 1, 2, 3
"""Fields: of a DictionaryBatch its RecordBatch, and two of a RecordBatch."""


def unpacked_sizes(source: pa.NativeFile, *, is_file: bool) -> Iterator[int]:
    """Yield the unpacked bytes of each batch and dictionary. Raise pa.ArrowException for what is no Arrow data."""
    source.seek(FILE_HEAD if is_file else 0)
    reader = pa.ipc.MessageReader.open_stream(source)
    while True:
        try:
            message = reader.read_next_message()
        except StopIteration:
            return
        if message.body is not None:
            yield _unpacked_size(memoryview(message.metadata), memoryview(message.body))


def _unpacked_size(head: memoryview, body: memoryview) -> int:
    """Return the unpacked bytes of a message, or its bytes if the header is damaged: Arrow will refuse it."""
    try:
        message = _follow(head, 0)
        kind = _field(head, message, _HEADER_TYPE)
        batch = _follow(head, _required(_field(head, message, _HEADER)))
        if kind is not None and head[kind] == _DICTIONARY_BATCH:
            batch = _follow(head, _required(_field(head, batch, _DATA)))
        elif kind is None or head[kind] != _RECORD_BATCH:
            return len(body)
        if _field(head, batch, _COMPRESSION) is None:
            return len(body)
        # a vector of Buffer structs: uint32 count, then int64 offset and int64 length each
        buffers = _follow(head, _required(_field(head, batch, _BUFFERS)))
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


def _follow(head: memoryview, position: int) -> int:
    """Return the position to which the relative offset at a position leads."""
    return position + int(struct.unpack_from("<I", head, position)[0])


def _required(field: int | None) -> int:
    if field is None:
        raise IndexError
    return field


def _field(head: memoryview, table: int, number: int) -> int | None:
    """Return the position of a table's field, or None if the field has its default."""
    vtable = table - int(struct.unpack_from("<i", head, table)[0])
    (size,) = struct.unpack_from("<H", head, vtable)
    entry = 4 + 2 * number  # behind the sizes of vtable and table
    offset = int(struct.unpack_from("<H", head, vtable + entry)[0]) if entry < size else 0
    return table + offset if offset else None
