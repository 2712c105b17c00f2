"""How much the batches of an Arrow file or stream unpack to, told by their headers: Arrow unpacks a batch as a whole.

The headers are flatbuffers (Message.fbs of the Arrow format); only the few numbers that say where the parts of a batch
lie are read.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

FILE_HEAD = 8
"""Bytes of an Arrow file before the stream that it holds."""
_RECORD_BATCH, _DICTIONARY_BATCH = 3, 2
_HEADER_TYPE, _HEADER, _DATA, _BUFFERS, _COMPRESSION = 1, 2, 1, 2, 3
"""Places of fields: of a message its header and the header's kind, of a dictionary its batch, and two of a batch."""


def unpacked_sizes(source: Any, *, is_file: bool) -> Iterator[int]:
    """Give the bytes of each batch and dictionary once unpacked. Raise pa.ArrowException for what is no such file."""
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
    """Return the bytes of one message; of one whose header is another, those of its body: Arrow will refuse it."""
    try:
        message = _follow(head, 0)
        kind = _field(head, message, _HEADER_TYPE)
        batch = _follow(head, _place(_field(head, message, _HEADER)))
        if kind is not None and head[kind] == _DICTIONARY_BATCH:
            batch = _follow(head, _place(_field(head, batch, _DATA)))
        elif kind is None or head[kind] != _RECORD_BATCH:
            return len(body)
        if _field(head, batch, _COMPRESSION) is None:
            return len(body)
        buffers = _follow(head, _place(_field(head, batch, _BUFFERS)))
        (count,) = struct.unpack_from("<I", head, buffers)
        sizes = 0
        for number in range(count):
            offset, length = struct.unpack_from("<qq", head, buffers + 4 + 16 * number)
            if length >= 8:  # the size comes first, or -1 where the buffer is not packed
                (size,) = struct.unpack_from("<q", body, offset)
                sizes += size if size >= 0 else length
    except (struct.error, IndexError):
        return len(body)
    return sizes


def _follow(head: memoryview, at: int) -> int:
    return at + int(struct.unpack_from("<I", head, at)[0])


def _place(field: int | None) -> int:
    if field is None:
        raise IndexError
    return field


def _field(head: memoryview, table: int, number: int) -> int | None:
    """Return where a field of a table lies, None where it has its default."""
    fields = table - int(struct.unpack_from("<i", head, table)[0])
    (size,) = struct.unpack_from("<H", head, fields)
    at = 4 + 2 * number
    offset = int(struct.unpack_from("<H", head, fields + at)[0]) if at < size else 0
    return table + offset if offset else None
