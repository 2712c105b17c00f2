"""What the Xet transport keeps: xorbs on disk under their hash, and for each file the terms that make it up.

A file is known when every byte of it was unpacked once and had the SHA-256 that the client gave.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from hubdpo.loopback.documents import written_whole
from hubdpo.loopback.store import Store
from hubdpo.loopback.wire import Refusal
from hubdpo.loopback.xet import hashes, xorbs
from hubdpo.loopback.xet.shards import SharedFile, Term
from hubdpo.loopback.xet.xorbs import Chunk

SAMPLED = 1024
"""One chunk in so many is looked up by clients that look for what the server has."""
CACHED = 16
"""Xorbs whose chunks stay in memory, up to 2 MB each."""


class XetStore:
    def __init__(self, store: Store) -> None:
        self._store = store
        self._folder = store.root / "xorbs"
        # a file takes many parts of one xorb after each other; a xorb that is here never changes
        self._cached = functools.lru_cache(CACHED)(self._present)

    # xorbs

    def place(self, xorb: str) -> Path:
        return self._folder / xorb[:2] / xorb

    def chunks(self, xorb: str) -> list[Chunk] | None:
        """Return the chunks of a xorb that is here, or None."""
        rows = self._store.query("SELECT chunks FROM xorb WHERE hash = ?", xorb)
        return xorbs.stored_chunks(rows[0][0]) if rows else None

    def add_xorb(self, xorb: str, data: bytes) -> bool:
        """Keep a xorb; False when it was here. Raise Refusal 400, keeping nothing, when it has another hash."""
        if self.chunks(xorb) is not None:
            return False
        chunks = xorbs.read_chunks(data)
        if hashes.to_hex(hashes.tree_hash([(chunk.hash, chunk.size) for chunk in chunks])) != xorb:
            raise Refusal(400, "the content is not that of the xorb's hash")
        with written_whole(self.place(xorb), beside=self._store.incoming) as stream:
            stream.write(data[: chunks[-1].stop])
        # the row comes last: without it, a xorb that a kill left is not there
        self._store.query("INSERT OR REPLACE INTO xorb VALUES (?, ?)", xorb, xorbs.store_chunks(chunks))
        for chunk in chunks:
            if hashes.divides(chunk.hash, SAMPLED):
                self._sample(chunk, xorb)
        return True

    def xorb_with(self, chunk: str) -> str | None:
        """Return a xorb that holds this chunk, when it is one of those that clients look up."""
        rows = self._store.query("SELECT xorb FROM chunk WHERE hash = ?", chunk)
        return rows[0][0] if rows else None

    def _sample(self, chunk: Chunk, xorb: str) -> None:
        self._store.query("INSERT OR IGNORE INTO chunk VALUES (?, ?)", hashes.to_hex(chunk.hash), xorb)

    # files

    def add_file(self, kind: str, repo_id: str, file: SharedFile) -> None:
        """Know a file and link it to a repo.

        Raise Refusal 400 when a xorb is not here, the terms do not fit together, or the content has another SHA-256.
        """
        if hashes.to_hex(hashes.file_hash(self._proven(file.terms))) != file.hash:
            raise Refusal(400, "the terms are not those of the file's hash")
        known = self._store.query("SELECT oid FROM xet WHERE hash = ?", file.hash)
        oid = known[0][0] if known else self._sha256(file.terms)
        if file.sha256 not in (None, oid):
            raise Refusal(400, "the content is not that of the object id")
        if not known:
            terms = json.dumps([asdict(term) | {"proof": None} for term in file.terms])
            self._store.query("INSERT OR REPLACE INTO xet VALUES (?, ?, ?, ?)", file.hash, oid, file.size, terms)
            first = file.terms[0]
            self._sample(self._chunks_of(first)[0], first.xorb)  # always looked up
        self._store.link_large(kind, repo_id, oid, file.size)

    def _proven(self, terms: Iterable[Term]) -> Iterator[hashes.Leaf]:
        """Yield the chunks of a file, those of one term at a time: a small shard may name millions of them."""
        for term in terms:
            part = self._chunks_of(term)
            # who names a part of a xorb must have known its chunks: the xorb may be of a repo that they cannot read
            if term.proof != hashes.range_hash([chunk.hash for chunk in part]):
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

    def _sha256(self, terms: Sequence[Term]) -> str:
        digest = hashlib.sha256()
        for part in self._unpacked(terms, 0):
            digest.update(part)
        return digest.hexdigest()

    def hash_of(self, kind: str, repo_id: str, oid: str) -> str | None:
        """Return the Xet hash of a large file of this repo that came by Xet, or None.

        Of a file that the repo only names nothing is told: that it is here would be news of another's private repo.
        """
        if self._store.large_size(kind, repo_id, oid) is None:
            return None
        rows = self._store.query("SELECT hash FROM xet WHERE oid = ?", oid)
        return rows[0][0] if rows else None

    def size_of(self, file: str) -> int:
        rows = self._store.query("SELECT size FROM xet WHERE hash = ?", file)
        return int(rows[0][0]) if rows else 0

    def oid_and_terms(self, file: str) -> tuple[str, list[Term]] | None:
        rows = self._store.query("SELECT oid, terms FROM xet WHERE hash = ?", file)
        return (rows[0][0], [Term(**term) for term in json.loads(rows[0][1])]) if rows else None

    def read(self, file: str, start: int) -> Iterator[bytes]:
        """Yield the content of a file from a byte on, unpacked, in pieces of any size."""
        found = self.oid_and_terms(file)
        return self._unpacked(found[1] if found else (), start)

    def _unpacked(self, terms: Sequence[Term], start: int) -> Iterator[bytes]:
        for term in terms:
            if start >= term.size:
                start -= term.size
                continue
            with self.place(term.xorb).open("rb") as stream:
                for chunk in self._chunks_of(term):
                    if start >= chunk.size:
                        start -= chunk.size
                        continue
                    stream.seek(chunk.start)
                    yield xorbs.unpack(stream.read(chunk.stop - chunk.start))[start:]
                    start = 0
