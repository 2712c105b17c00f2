"""Xet storage: xorbs on disk under their hash, and the terms of each file."""

from __future__ import annotations

import functools
import hashlib
import io
import json
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hubdpo.loopback.http.wire import Refusal
from hubdpo.loopback.storage.folder import written_whole
from hubdpo.loopback.storage.store import Repo, Store
from hubdpo.loopback.xet import xorbs
from hubdpo.loopback.xet.shards import SharedFile, Term
from hubdpo.loopback.xet.xorbs import Chunk

SAMPLED = 1024
"""Clients query for one chunk in this many, to find content that the server already has."""
CACHED = 16
"""Number of xorbs whose chunk lists stay in memory, up to 2 MB each."""
Buffer = Any
"""bytes or bytearray: the stubs of io have no public name for the types of their buffers."""


class XetStore:
    def __init__(self, store: Store) -> None:
        self._store = store
        self._folder = store.root / "xorbs"
        # the terms of a file often name one xorb many times; a stored xorb never changes
        self._cached = functools.lru_cache(CACHED)(self._present)

    # xorbs

    def path(self, xorb: str) -> Path:
        return self._folder / xorb[:2] / xorb

    def chunks(self, xorb: str) -> list[Chunk] | None:
        """Return the chunks of a stored xorb, or None."""
        rows = self._store.query("SELECT chunks FROM xorb WHERE hash = ?", xorb)
        return xorbs.stored_chunks(rows[0][0]) if rows else None

    def add_xorb(self, xorb: str, parts: Iterable[bytes]) -> bool:
        """Store a xorb; return False if it is stored already. Raise Refusal 400, storing nothing, for another hash."""
        if self.chunks(xorb) is not None:
            deque(parts, maxlen=0)  # read to the end: the connection is used again
            return False
        with written_whole(self.path(xorb), beside=self._store.incoming) as stream:
            for part in parts:
                stream.write(part)
            stream.seek(0)
            chunks = xorbs.read_chunks(stream)
            if xorbs.to_hex(xorbs.tree_hash([(chunk.hash, chunk.size) for chunk in chunks])) != xorb:
                raise Refusal(400, "the content does not match the hash of the xorb")
            stream.truncate(chunks[-1].stop)
        # the row comes last: without it, a file left by a killed server does not count
        self._store.query("INSERT OR REPLACE INTO xorb VALUES (?, ?)", xorb, xorbs.store_chunks(chunks))
        for chunk in chunks:
            if xorbs.divides(chunk.hash, SAMPLED):
                self._sample(chunk, xorb)
        return True

    def xorb_with(self, chunk: str) -> str | None:
        """Return a xorb that holds this chunk, if it is one of the sampled chunks."""
        rows = self._store.query("SELECT xorb FROM chunk WHERE hash = ?", chunk)
        return rows[0][0] if rows else None

    def _sample(self, chunk: Chunk, xorb: str) -> None:
        self._store.query("INSERT OR IGNORE INTO chunk VALUES (?, ?)", xorbs.to_hex(chunk.hash), xorb)

    # files

    def add_file(self, repo: Repo, file: SharedFile) -> None:
        """Register a file of a repo. Raise Refusal 400 for a missing xorb, or terms of another hash or SHA-256."""
        if xorbs.to_hex(xorbs.file_hash(self._proven(file.terms))) != file.hash:
            raise Refusal(400, "the terms do not match the hash of the file")
        known = self._store.query("SELECT oid FROM xet WHERE hash = ?", file.hash)
        # unpacked once, to compare the SHA-256 with the one that the client sent
        oid = known[0][0] if known else _sha256(self._unpacked(file.terms, 0))
        if file.sha256 not in (None, oid):
            raise Refusal(400, "the content does not match the object id")
        if not known:
            terms = json.dumps([asdict(term) | {"proof": None} for term in file.terms])
            self._store.query("INSERT OR REPLACE INTO xet VALUES (?, ?, ?, ?)", file.hash, oid, file.size, terms)
            first = file.terms[0]
            self._sample(self._chunks_of(first)[0], first.xorb)  # clients always query the first chunk
        self._store.link_large(repo, oid, file.size)

    def _proven(self, terms: Iterable[Term]) -> Iterator[xorbs.Leaf]:
        """Yield (hash, size) of the chunks of a file, term by term: a small shard may name millions of chunks."""
        for term in terms:
            part = self._chunks_of(term)
            # the proof shows that the client has the chunks: the xorb may belong to a repo that it cannot read
            if term.proof != xorbs.range_hash([chunk.hash for chunk in part]):
                raise Refusal(400, f"a term comes without its proof: {term.xorb}")
            yield from ((chunk.hash, chunk.size) for chunk in part)

    def _present(self, xorb: str) -> list[Chunk]:
        chunks = self.chunks(xorb)
        if chunks is None:
            raise Refusal(400, f"a xorb was not uploaded: {xorb}")
        return chunks

    def _chunks_of(self, term: Term) -> list[Chunk]:
        chunks = self._cached(term.xorb)
        part = chunks[term.start : term.stop]
        if not 0 <= term.start < term.stop <= len(chunks) or sum(chunk.size for chunk in part) != term.size:
            raise Refusal(400, f"a term does not fit its xorb: {term.xorb}")
        return part

    def hash_of(self, repo: Repo, oid: str) -> str | None:
        """Return the Xet hash of a large file that was uploaded to this repo by Xet, or None."""
        if self._store.large_size(repo, oid) is None:  # another repo may have it, a private one
            return None
        rows = self._store.query("SELECT hash FROM xet WHERE oid = ?", oid)
        return rows[0][0] if rows else None

    def oid_and_terms(self, file: str) -> tuple[str, list[Term]] | None:
        rows = self._store.query("SELECT oid, terms FROM xet WHERE hash = ?", file)
        return (rows[0][0], _terms(rows[0][1])) if rows else None

    def read(self, oid: str, start: int) -> Iterator[bytes]:
        """Yield the unpacked content of a registered file from an offset on."""
        rows = self._store.query("SELECT terms FROM xet WHERE oid = ?", oid)
        return self._unpacked(_terms(rows[0][0]), start)

    def _unpacked(self, terms: Sequence[Term], start: int) -> Iterator[bytes]:
        for term in terms:
            if start >= term.size:
                start -= term.size
                continue
            with self.path(term.xorb).open("rb") as stream:
                for chunk in self._chunks_of(term):
                    if start >= chunk.size:
                        start -= chunk.size
                        continue
                    stream.seek(chunk.start)
                    yield xorbs.unpack(stream.read(chunk.stop - chunk.start))[start:]
                    start = 0


class XetFile(io.RawIOBase):
    """A file as a stream: reading unpacks the chunks of the part that is read."""

    def __init__(self, store: XetStore, oid: str, size: int) -> None:
        self._store, self._oid, self._size = store, oid, size
        self._at = 0
        self._parts: Iterator[bytes] | None = None
        self._left = b""
        """What is unpacked and not read yet, which begins at `_at`."""

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        at = start + offset
        if at < 0:
            raise ValueError("a file has no bytes before its beginning")
        if at != self._at:
            self._at, self._left, self._parts = at, b"", None
        return at

    def readinto(self, buffer: Buffer) -> int:
        if self._at >= self._size:
            return 0
        if self._parts is None:
            self._parts = self._store.read(self._oid, self._at)
        if not self._left:
            self._left = next(self._parts, b"")
        count = min(len(buffer), len(self._left))
        buffer[:count] = self._left[:count]
        self._left = self._left[count:]
        self._at += count
        return count


def _terms(stored: str) -> list[Term]:
    return [Term(**term) for term in json.loads(stored)]


def _sha256(parts: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()
