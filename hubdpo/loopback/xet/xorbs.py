"""Xorbs, the upload format of Xet: a sequence of chunks, each compressed on its own; and the hashes of Xet."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import BinaryIO

import lz4.frame
from blake3 import blake3

from hubdpo.loopback.http.wire import Refusal

HEADER = 8
LARGEST_CONTENT, MOST_CHUNKS = 64 * 2**20, 8192
LARGEST = LARGEST_CONTENT + MOST_CHUNKS * (HEADER + 48) + 4096
"""Largest xorb as it is sent, in bytes: 64 MiB of content that does not compress, and for each chunk a header and
48 bytes in the tables at the end."""
STORED = struct.Struct("<II32s")
"""A chunk in the database: end offset in the xorb, unpacked size, hash."""
PLAIN, LZ4, GROUPED_LZ4 = range(3)
# BLAKE3 with a key for each purpose, and a Merkle tree: the section "Hashing" of the protocol's specification
Leaf = tuple[bytes, int]
"""The hash (32 bytes) and size in bytes of a chunk, or of a node above several chunks."""
CHUNK_KEY = bytes.fromhex("6697f5775b9550de3135cbaca597181c9de421109beb2b58b4d0b04b93adf229")
NODE_KEY = bytes.fromhex("017ec5c7a5472996fd946666b48a02e65ddd536f37c76dd2f86352e64a53713f")
RANGE_KEY = bytes.fromhex("7f1857d6ce56ed66127ff913e7a5c3f3a4cd26d5b5db49e64124987f28fb94c3")
FILE_KEY = bytes(32)
BRANCHES, FEWEST_BRANCHES, MOST_BRANCHES = 4, 3, 9


@dataclass(frozen=True)
class Chunk:
    """A chunk of a xorb: the offsets of its header and of its end, and its size and hash unpacked."""

    start: int
    stop: int
    size: int
    hash: bytes


def read_chunks(stream: BinaryIO) -> list[Chunk]:
    """Unpack and hash every chunk of a xorb, ignoring what follows them. Raise Refusal 400 for a malformed chunk."""
    chunks: list[Chunk] = []
    position = total = 0
    while len(header := stream.read(HEADER)) == HEADER and header[0] == 0:
        content = unpack(header + stream.read(int.from_bytes(header[1:4], "little")))
        stop = position + HEADER + int.from_bytes(header[1:4], "little")
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
    """Undo the grouping of bytes 0, 4, 8, ..., then 1, 5, 9, ..., by which the exponents of floats compress better."""
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


def to_hex(digest: bytes) -> str:
    """Format a hash as the protocol writes it: four little-endian 64-bit numbers in hexadecimal."""
    return "".join(f"{number:016x}" for number in struct.unpack("<4Q", digest))


def from_hex(text: str) -> bytes:
    """Parse the format of `to_hex`. Raise ValueError for any other text."""
    return struct.pack("<4Q", *(int(text[start : start + 16], 16) for start in range(0, 64, 16)))


def chunk_hash(data: bytes) -> bytes:
    return blake3(data, key=CHUNK_KEY).digest()


def tree_hash(leaves: Iterable[Leaf]) -> bytes:
    """Return the root of the Merkle tree over the leaves, the hash of a xorb. The hashes themselves end a node."""
    # each level keeps only its unfinished node, so memory does not grow with the number of leaves
    levels: list[list[Leaf]] = [[]]
    counts = [0]
    for leaf in leaves:
        _push(levels, counts, 0, leaf)
    for level, node in enumerate(levels):  # `levels` grows in the loop until a level has a single node
        if counts[level] == 1:
            return node[0][0]
        if node:
            _close(levels, counts, level)
    return bytes(32)


def file_hash(leaves: Iterable[Leaf]) -> bytes:
    return blake3(tree_hash(leaves), key=FILE_KEY).digest()


def range_hash(hashes: Sequence[bytes]) -> bytes:
    """Return the proof that the sender of a file has the chunks of a term."""
    return blake3(b"".join(hashes), key=RANGE_KEY).digest()


def keyed(digest: bytes, key: bytes) -> bytes:
    """Return the keyed BLAKE3 hash of a chunk hash."""
    return blake3(digest, key=key).digest()


def divides(digest: bytes, number: int) -> bool:
    return int.from_bytes(digest[24:], "little") % number == 0


def _push(levels: list[list[Leaf]], counts: list[int], level: int, leaf: Leaf) -> None:
    if level == len(levels):
        levels.append([])
        counts.append(0)
    node = levels[level]
    node.append(leaf)
    counts[level] += 1
    # a node has 3 to 9 children and ends at one whose hash is a multiple of 4, so an edit changes few nodes
    if len(node) == MOST_BRANCHES or (len(node) >= FEWEST_BRANCHES and divides(leaf[0], BRANCHES)):
        _close(levels, counts, level)


def _close(levels: list[list[Leaf]], counts: list[int], level: int) -> None:
    node = levels[level]
    text = "".join(f"{to_hex(digest)} : {size}\n" for digest, size in node)
    above = blake3(text.encode(), key=NODE_KEY).digest(), sum(size for _, size in node)
    node.clear()
    _push(levels, counts, level + 1, above)
