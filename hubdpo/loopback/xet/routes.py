"""The Xet API: receive xorbs and shards, return tokens, file reconstructions and byte ranges of xorbs."""

from __future__ import annotations

import json
import re

from hubdpo.loopback.api.access import may_propose, still_readable
from hubdpo.loopback.http.wire import JSON, Answer, Refusal, Request, as_json, byte_range, file_answer
from hubdpo.loopback.limits import check_room
from hubdpo.loopback.storage.store import Repo, Store
from hubdpo.loopback.storage.tokens import Signer
from hubdpo.loopback.xet.shards import LARGEST as LARGEST_SHARD
from hubdpo.loopback.xet.shards import Term, read_files, write_shard
from hubdpo.loopback.xet.store import XetStore
from hubdpo.loopback.xet.xorbs import LARGEST

Span = tuple[int, int]
"""A range of chunks in a xorb: the first, and the one after the last."""


class Xet:
    def __init__(self, store: Store, files: XetStore, signer: Signer, endpoint: str) -> None:
        self._store, self._files, self._signer, self._endpoint = store, files, signer, endpoint
        self._cdn = endpoint.replace("127.0.0.1", "localhost")
        self._chunk_key = signer.key("chunks")
        collected = store.query("SELECT COUNT(*) FROM collected")[0][0]
        self._generation = signer.key(f"generation {collected}").hex()[:16]

    def token(self, request: Request, repo: Repo, scope: str) -> Answer:
        """Return a token to read or to upload large files of one repo; committing them takes a Hub token."""
        if scope == "write":
            may_propose(request, repo)
        token, until = self._signer.token(scope, repo.kind, repo.id, request.reader)
        # clients remember, by this address, which chunks they sent: after some were removed they must ask again
        url = f"{self._endpoint}/_xet/~{self._generation}"
        return as_json(
            {"accessToken": token, "exp": until, "casUrl": url},
            X_Xet_Cas_Url=url, X_Xet_Access_Token=token, X_Xet_Token_Expiration=str(until),
        )  # fmt: skip

    def _granted(self, request: Request, scope: str) -> tuple[Repo, str]:
        signed = self._signer.granted(request, scope)
        return still_readable(self._store, *signed), signed.reader

    def take_xorb(self, request: Request, xorb: str) -> Answer:
        self._granted(request, "write")
        if not re.fullmatch("[0-9a-f]{64}", xorb):
            raise Refusal(400, "not the hash of a xorb")
        check_room(self._store.root, min(int(request.headers.get("content-length", LARGEST)), LARGEST))
        return as_json({"was_inserted": self._files.add_xorb(xorb, request.parts(LARGEST))})

    def take_shard(self, request: Request, version: str) -> Answer:
        """Register the files of a shard. Version 2 of the call reports progress in lines, the last is the result."""
        repo, _ = self._granted(request, "write")
        data = request.whole(LARGEST_SHARD)
        check_room(self._store.root, len(data))
        files = read_files(data)
        for file in files:
            self._files.add_file(repo, file)
        if version == "v1":
            return as_json({"result": 1})
        lines = [{"type": "validating", "verified": len(files), "total": len(files)}, {"type": "result"}]
        content = "".join(json.dumps(line) + "\n" for line in lines).encode()
        return Answer(200, {"Content-Type": "application/x-ndjson"}, content)

    def known_chunks(self, request: Request, chunk: str) -> Answer:
        self._granted(request, "read")
        xorb = self._files.xorb_with(chunk)
        chunks = xorb and self._files.chunks(xorb)
        if not xorb or not chunks:
            raise Refusal(404, "no xorb is known to hold this chunk")
        return Answer(200, {"Content-Type": "application/octet-stream"}, write_shard(xorb, chunks, key=self._chunk_key))

    def reconstruction(self, request: Request, version: str, file: str) -> Answer:
        """Return the terms of a file, or of a byte range of it, with URLs for the byte ranges of their xorbs."""
        repo, reader = self._granted(request, "read")
        stored = self._files.oid_and_terms(file)
        if stored is None or self._store.large_size(repo, stored[0]) is None:
            raise Refusal(404, "this repo has no such file")
        terms, offset = _within(stored[1], request)
        listed = [
            {"hash": t.xorb, "unpacked_length": t.size, "range": {"start": t.start, "end": t.stop}} for t in terms
        ]
        fetch: dict[str, list[JSON]] = {}
        for xorb in dict.fromkeys(term.xorb for term in terms):
            spans = _joined([(term.start, term.stop) for term in terms if term.xorb == xorb])
            fetch[xorb] = [self._fetch_info(repo, reader, xorb, span, version) for span in spans]
        urls = "fetch_info" if version == "v1" else "xorbs"
        return as_json({"offset_into_first_range": offset, "terms": listed, urls: fetch})

    def _fetch_info(self, repo: Repo, reader: str, xorb: str, span: Span, version: str) -> JSON:
        chunks = self._files.chunks(xorb) or []
        first, last = chunks[span[0]].start, chunks[span[1] - 1].stop - 1
        signature = self._signer.query(repo.kind, repo.id, reader, "xorb", xorb, f"{first}-{last}")
        # another origin than the endpoint, and one signature for each byte range
        url = f"{self._cdn}/_xet/xorb/{xorb}?range={first}-{last}&{signature}"
        chunk_range, byte_range = {"start": span[0], "end": span[1]}, {"start": first, "end": last}
        if version == "v1":
            return {"range": chunk_range, "url": url, "url_range": byte_range}
        return {"url": url, "ranges": [{"chunks": chunk_range, "bytes": byte_range}]}

    def xorb_range(self, request: Request, xorb: str) -> Answer:
        allowed = request.parameter("range")
        still_readable(self._store, *self._signer.check(request, "xorb", xorb, allowed))
        if request.headers.get("range") != f"bytes={allowed}":
            raise Refusal(403, "the URL is signed for another range")
        headers = {"ETag": f'"{xorb}"', "Content-Type": "application/octet-stream"}
        return file_answer(request, self._files.path(xorb), headers)


def _joined(spans: list[Span]) -> list[Span]:
    """Join ranges that touch or overlap: the client expects each chunk in one range only."""
    joined: list[Span] = []
    for start, stop in sorted(spans):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(stop, joined[-1][1]))
        else:
            joined.append((start, stop))
    return joined


def _within(terms: list[Term], request: Request) -> tuple[list[Term], int]:
    """Return the terms of the requested byte range, and its offset in the first of them. Raise Refusal 416."""
    total = sum(term.size for term in terms)
    start, stop = byte_range(request, total) or (0, total)
    needed: list[Term] = []
    position = offset = 0
    for term in terms:
        if position < stop and position + term.size > start:
            offset = offset if needed else start - position
            needed.append(term)
        position += term.size
    return needed, offset
