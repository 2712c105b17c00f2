"""Shards: what the Xet client says files are made of, and what the server answers about chunks that it has.

Layout as in the protocol's specification, "MDB Shard File Format".
"""

from __future__ import annotations

import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass

from hubdpo.loopback.limits import LARGEST_FILE
from hubdpo.loopback.wire import Refusal
from hubdpo.loopback.xet.hashes import from_hex, keyed, to_hex
from hubdpo.loopback.xet.xorbs import Chunk

TAG = b"HFRepoMetaData\0" + bytes.fromhex("556967456a7b815783a5bdd95ccdd14aa9")
HEADER = struct.Struct("<32sQQ")
FILE = struct.Struct("<32sII8x")
TERM = struct.Struct("<32sIIII")
PROOF = struct.Struct("<32s16x")
XORB = struct.Struct("<32sIIII")
CHUNK = struct.Struct("<32sII8x")
FOOTER = struct.Struct("<QQQQQQQQQ32sQQ72xQ")
END = b"\xff" * 32 + bytes(16)
WITH_PROOFS, WITH_SHA256 = 1 << 31, 1 << 30
LARGEST = 64 * 2**20
LIFETIME_S = 7 * 24 * 3600
SMALLEST_CHUNK = 8 * 2**10
"""Fewest bytes of a chunk that is not the last of its file: clients cut none that is smaller."""
MOST_CONTENT, MOST_CHUNKS = 2 * LARGEST_FILE, 2**24
"""Most bytes and chunks of the files of a shard, which are all unpacked and hashed. Chunks have 64 KiB on average: a
file of the largest size has some 8 million, and the 64 MiB of a shard list the chunks of some 90 GB that are new."""


@dataclass(frozen=True, slots=True)
class Term:
    """A part of a file: chunks `start` to `stop` of a xorb, `size` bytes when unpacked."""

    xorb: str
    start: int
    stop: int
    size: int
    proof: bytes | None = None


@dataclass(frozen=True)
class SharedFile:
    hash: str
    sha256: str | None
    terms: list[Term]

    @property
    def size(self) -> int:
        return sum(term.size for term in self.terms)


def read_files(data: bytes) -> list[SharedFile]:
    """Read the files of a shard. Raise Refusal 400 when it is malformed."""
    try:
        tag, version, _ = HEADER.unpack_from(data)
        if (tag, version) != (TAG, 2):
            raise Refusal(400, f"not a shard of version 2: {tag.hex()}")
        return _files(data, HEADER.size)
    except struct.error:
        raise Refusal(400, "the shard is cut short") from None


def _files(data: bytes, position: int) -> list[SharedFile]:
    files: list[SharedFile] = []
    content = chunks = 0
    while data[position : position + len(END)] != END:
        digest, flags, count = FILE.unpack_from(data, position)
        position += FILE.size
        if not count:
            raise Refusal(400, f"a file has no terms: {to_hex(digest)}")
        rows = [TERM.unpack_from(data, position + index * TERM.size) for index in range(count)]
        position += count * TERM.size
        proofs: list[bytes | None] = [None] * count
        if flags & WITH_PROOFS:
            proofs = [PROOF.unpack_from(data, position + index * PROOF.size)[0] for index in range(count)]
            position += count * PROOF.size
        sha256 = None
        if flags & WITH_SHA256:
            sha256 = to_hex(PROOF.unpack_from(data, position)[0])
            position += PROOF.size
        terms = [
            Term(to_hex(xorb), start, stop, size, proof)
            for (xorb, _, size, start, stop), proof in zip(rows, proofs, strict=True)
        ]
        files.append(SharedFile(to_hex(digest), sha256, terms))
        size, count = files[-1].size, sum(max(term.stop - term.start, 0) for term in terms)
        if size > LARGEST_FILE:
            raise Refusal(413, f"a large file has at most {LARGEST_FILE:,} bytes")
        if count > size // SMALLEST_CHUNK + 1:
            raise Refusal(413, f"a file of {size:,} bytes has no {count:,} chunks: {files[-1].hash}")
        content, chunks = content + size, chunks + count
        if content > MOST_CONTENT or chunks > MOST_CHUNKS:
            raise Refusal(413, f"the files of a shard have at most {MOST_CONTENT:,} bytes and {MOST_CHUNKS:,} chunks")
    return files


def write_shard(xorb: str, chunks: Sequence[Chunk], *, key: bytes) -> bytes:
    """Return a shard that names the chunks of one xorb, so that a client need not send them.

    Their hashes are hashed again with the key: a client finds those that it holds, and learns none of the others.
    """
    rows, offset = [], 0
    for chunk in chunks:
        rows.append(CHUNK.pack(keyed(chunk.hash, key), offset, chunk.size))
        offset += chunk.size
    head = XORB.pack(from_hex(xorb), 0, len(chunks), offset, chunks[-1].stop)
    body = HEADER.pack(TAG, 2, FOOTER.size) + END + head + b"".join(rows) + END
    now = int(time.time())
    first = HEADER.size + len(END)
    # tables for looking up files, xorbs and chunks may follow the body: none of them has an entry
    tables = (len(body), 0) * 3
    return body + FOOTER.pack(1, HEADER.size, first, *tables, key, now, now + LIFETIME_S, len(body))
