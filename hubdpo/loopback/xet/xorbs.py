"""Xorbs, the upload format of Xet: a sequence of chunks, each compressed on its own."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import lz4.frame

from hubdpo.loopback.http.wire import Refusal
from hubdpo.loopback.xet.hashes import chunk_hash

HEADER = 8
LARGEST_CONTENT, MOST_CHUNKS = 64 * 2**20, 8192
LARGEST = LARGEST_CONTENT + MOST_CHUNKS * (HEADER + 48) + 4096
"""Largest xorb as it is sent, in bytes: 64 MiB of content that does not compress, and for each chunk a header and
48 bytes in the tables at the end."""
STORED = struct.Struct("<II32s")
"""A chunk in the database: end offset in the xorb, unpacked size, hash."""
PLAIN, LZ4, GROUPED_LZ4 = range(3)


@dataclass(frozen=True)
class Chunk:
    """A chunk of a xorb: the offsets of its header and of its end, and its size and hash unpacked."""

    start: int
    stop: int
    size: int
    hash: bytes


def read_chunks(data: bytes) -> list[Chunk]:
    """Unpack and hash every chunk of a xorb, ignoring what follows them. Raise Refusal 400 for a malformed chunk."""
    chunks: list[Chunk] = []
    position = total = 0
    while position + HEADER <= len(data) and data[position] == 0:
        packed = int.from_bytes(data[position + 1 : position + 4], "little")
        stop = position + HEADER + packed
        content = unpack(data[position:stop])
        chunks.append(Chunk(position, stop, len(content), chunk_hash(content)))
        position = stop
        total += len(content)
        if len(chunks) > MOST_CHUNKS or total > LARGEST_CONTENT:
            raise Refusal(400, "the xorb has too many chunks, or unpacks to too many bytes")
    if not chunks:
        raise Refusal(400, "the xorb has no chunk")
    return chunks


def unpack(packed: bytes) -> bytes:
    """Unpack one chunk, with its header. Raise Refusal 400 if it is malformed."""
    # header: version (1 byte), compressed size (3), compression scheme (1), size (3); sizes in little-endian bytes
    length, scheme = int.from_bytes(packed[1:4], "little"), packed[4]
    size, data = int.from_bytes(packed[5:8], "little"), packed[HEADER:]
    if len(data) != length or scheme not in (PLAIN, LZ4, GROUPED_LZ4):
        raise Refusal(400, "a chunk of the xorb is malformed")
    if scheme != PLAIN:
        try:
            # one byte more than announced is enough to detect a lie: a few kilobytes could unpack to gigabytes
            data = lz4.frame.LZ4FrameDecompressor().decompress(data, max_length=size + 1)
        except (RuntimeError, EOFError) as problem:
            raise Refusal(400, f"a chunk of the xorb cannot be unpacked: {problem}") from None
    if len(data) != size:
        raise Refusal(400, "the size of a chunk of the xorb differs from its header")
    return _ungroup(data) if scheme == GROUPED_LZ4 else data


def _ungroup(data: bytes) -> bytes:
    """Undo the grouping of every fourth byte, which makes float weights compress better.

    Grouped, bytes 0, 4, 8, ... come first, then 1, 5, 9, ..., so that equal exponents are next to each other.
    """
    whole = bytearray(len(data))
    start = 0
    for group in range(4):
        stop = start + len(range(group, len(data), 4))
        whole[group::4] = data[start:stop]
        start = stop
    return bytes(whole)


def store_chunks(chunks: list[Chunk]) -> bytes:
    return b"".join(STORED.pack(chunk.stop, chunk.size, chunk.hash) for chunk in chunks)


def stored_chunks(blob: bytes) -> list[Chunk]:
    """Read the format of `store_chunks`."""
    chunks: list[Chunk] = []
    for stop, size, digest in STORED.iter_unpack(blob):
        chunks.append(Chunk(chunks[-1].stop if chunks else 0, stop, size, digest))
    return chunks
