"""Xorbs: what the Xet client sends content in, a run of chunks that are each compressed alone."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import lz4.frame

from hubdpo.loopback.wire import Refusal
from hubdpo.loopback.xet.hashes import chunk_hash

HEADER = 8
LARGEST_CONTENT, MOST_CHUNKS, LARGEST_CHUNK = 64 * 2**20, 8192, 2**24
LARGEST = LARGEST_CONTENT + MOST_CHUNKS * (HEADER + 48) + 4096
"""Most bytes of a xorb as it is sent. The client fills it with 64 MiB of content; content that does not compress then
takes its full size, and to it come a header for each chunk and the tables at the end, 48 bytes for each chunk."""
STORED = struct.Struct("<II32s")
PLAIN, LZ4, GROUPED_LZ4 = range(3)


@dataclass(frozen=True)
class Chunk:
    """A chunk of a xorb: where its header starts and its data ends there, its size and hash when unpacked."""

    start: int
    stop: int
    size: int
    hash: bytes


def read_chunks(data: bytes) -> list[Chunk]:
    """Unpack and hash every chunk of a xorb, whatever follows them. Raise Refusal 400 when one cannot be read."""
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
            raise Refusal(400, "the xorb holds too many chunks, or unpacks to too much")
    if not chunks:
        raise Refusal(400, "the xorb holds no chunk")
    return chunks


def unpack(packed: bytes) -> bytes:
    """Return the content of one chunk, given with its header. Raise Refusal 400 when it cannot be unpacked."""
    length, scheme = int.from_bytes(packed[1:4], "little"), packed[4]
    size, data = int.from_bytes(packed[5:8], "little"), packed[HEADER:]
    if len(data) != length or scheme not in (PLAIN, LZ4, GROUPED_LZ4):
        raise Refusal(400, "a chunk of the xorb is malformed")
    if scheme != PLAIN:
        try:
            # no more than it says, and one byte to tell: a few kilobytes may unpack to gigabytes
            data = lz4.frame.LZ4FrameDecompressor().decompress(data, max_length=size + 1)
        except (RuntimeError, EOFError) as problem:
            raise Refusal(400, f"a chunk of the xorb cannot be unpacked: {problem}") from None
    if len(data) != size:
        raise Refusal(400, "a chunk of the xorb has another size than it says")
    return _ungroup(data) if scheme == GROUPED_LZ4 else data


def _ungroup(data: bytes) -> bytes:
    """Undo the grouping of every fourth byte, under which the floats of weights compress."""
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
    """Read back what `store_chunks` wrote."""
    chunks: list[Chunk] = []
    for stop, size, digest in STORED.iter_unpack(blob):
        chunks.append(Chunk(chunks[-1].stop if chunks else 0, stop, size, digest))
    return chunks
