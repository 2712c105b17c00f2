"""Read the shards of Xet clients, which list the terms of files, and write shards of known chunks for them."""

from __future__ import annotations

import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass

from hubdpo.loopback.http.wire import Refusal
from hubdpo.loopback.limits import LARGEST_FILE
from hubdpo.loopback.xet.xorbs import Chunk, from_hex, keyed, to_hex

# the section "MDB Shard File Format" of the protocol's specification
TAG = b"HFRepoMetaData\0" + bytes.fromhex("556967456a7b815783a5bdd95ccdd14aa9")
HEADER = struct.Struct("<32sQQ")  # tag, version, size of the footer
# records of 48 bytes
FILE = struct.Struct("<32sII8x")  # file hash, flags, number of terms
TERM = struct.Struct("<32sIIII")  # xorb hash, flags, unpacked size, first chunk, chunk after the last
PROOF = struct.Struct("<32s16x")  # proof of a term, or SHA-256 of a file
XORB = struct.Struct("<32sIIII")  # xorb hash, flags, number of chunks, unpacked size, size
CHUNK = struct.Struct("<32sII8x")  # chunk hash, offset of its content, unpacked size
FOOTER = struct.Struct("<QQQQQQQQQ32sQQ72xQ")
END = b"\xff" * 32 + bytes(16)  # ends the list of files, and that of xorbs
WITH_PROOFS, WITH_SHA256 = 1 << 31, 1 << 30
LARGEST = 64 * 2**20
LIFETIME_S = 7 * 24 * 3600
SMALLEST_CHUNK = 8 * 2**10
"""Smallest chunk in bytes, except the last of a file."""
MOST_CONTENT, MOST_CHUNKS = 2 * LARGEST_FILE, 2**24
"""Most bytes and chunks of all files of a shard; the server unpacks and hashes them all. A chunk has 64 KiB on average,
so the largest file has about 8 million, and a shard of 64 MiB can list the chunks of about 90 GB of new content."""


@dataclass(frozen=True, slots=True)
class Term:
    """A part of a file: chunks `start` to `stop` (exclusive) of a xorb, `size` bytes unpacked."""

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
    """Read the files of a shard. Raise Refusal 400 if it is malformed, 413 if its files are too large."""
    try:
        tag, version, _ = HEADER.unpack_from(data)
        if (tag, version) != (TAG, 2):
            raise Refusal(400, f"not a version 2 shard: {tag.hex()}")
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
            raise Refusal(413, f"a file of {size:,} bytes cannot have {count:,} chunks: {files[-1].hash}")
        content, chunks = content + size, chunks + count
        if content > MOST_CONTENT or chunks > MOST_CHUNKS:
            raise Refusal(413, f"the files of a shard have at most {MOST_CONTENT:,} bytes and {MOST_CHUNKS:,} chunks")
    return files


def write_shard(xorb: str, chunks: Sequence[Chunk], *, key: bytes) -> bytes:
    """Return a shard that lists the chunks of one xorb, so that a client does not upload them again."""
    # the chunk hashes are keyed: a client can recognise its own chunks, and learns nothing about the others
    rows, offset = [], 0
    for chunk in chunks:
        rows.append(CHUNK.pack(keyed(chunk.hash, key), offset, chunk.size))
        offset += chunk.size
    head = XORB.pack(from_hex(xorb), 0, len(chunks), offset, chunks[-1].stop)
    body = HEADER.pack(TAG, 2, FOOTER.size) + END + head + b"".join(rows) + END
    now = int(time.time())
    first = HEADER.size + len(END)
    # the lookup tables of files, xorbs and chunks after the body are empty
    tables = (len(body), 0) * 3
    return body + FOOTER.pack(1, HEADER.size, first, *tables, key, now, now + LIFETIME_S, len(body))
