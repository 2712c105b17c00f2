"""The Xet transport as its client asks for it: tokens, xorbs and shards in, reconstructions and ranges of xorbs out.

Xorbs are read from another origin than the endpoint, by addresses that are each signed for one range.
"""

from __future__ import annotations

import re
from typing import Any

from hubdpo.loopback.access import may_read, may_write
from hubdpo.loopback.signing import Signer
from hubdpo.loopback.store import Store
from hubdpo.loopback.wire import Answer, Refusal, Request, as_json, ranged
from hubdpo.loopback.xet.shards import Term, read_files, write_shard
from hubdpo.loopback.xet.store import XetStore
from hubdpo.loopback.xet.xorbs import LARGEST

HASH = re.compile(r"[0-9a-f]{64}")
Span = tuple[Term, int, int]
"""A term with the first and the last byte of its chunks in the xorb."""


class Xet:
    def __init__(self, store: Store, files: XetStore, signer: Signer, endpoint: str) -> None:
        self._store, self._files, self._signer, self._endpoint = store, files, signer, endpoint
        self._cdn = endpoint.replace("127.0.0.1", "localhost")
        self._chunk_key = signer.key("chunks")

    def token(self, request: Request, kind: str, repo_id: str, scope: str) -> Answer:
        """Grant a token to read or to write the large files of one repo."""
        (may_write if scope == "write" else may_read)(self._store, request, kind, repo_id)
        token, until = self._signer.token(scope, kind, repo_id)
        address = f"{self._endpoint}/_xet"
        return as_json(
            {"accessToken": token, "exp": until, "casUrl": address},
            X_Xet_Cas_Url=address, X_Xet_Access_Token=token, X_Xet_Token_Expiration=str(until),
        )  # fmt: skip

    def answer(self, request: Request, parts: list[str]) -> Answer:
        match request.method, parts:
            case "GET", ["xorb", xorb]:
                return self._range_of(request, xorb)
            case "GET", ["v1", "chunks", _, chunk]:
                return self._known_chunks(request, chunk)
            case "POST", ["v1", "xorbs", _, xorb]:
                return self._take_xorb(request, xorb)
            case "POST", ["v1", "shards"]:
                return self._take_shard(request)
            case "GET", ["v1" | "v2" as version, "reconstructions", file]:
                return self._reconstruction(request, file, version)
        raise Refusal(404, "Not found")

    def _take_xorb(self, request: Request, xorb: str) -> Answer:
        self._signer.granted(request, "write")
        if not HASH.fullmatch(xorb):
            raise Refusal(400, "not the hash of a xorb")
        data = request.body.read(LARGEST + 1)
        if len(data) > LARGEST:
            raise Refusal(413, "the xorb is too large")
        return as_json({"was_inserted": self._files.add_xorb(xorb, data)})

    def _take_shard(self, request: Request) -> Answer:
        grant = self._signer.granted(request, "write")
        data = request.body.read(LARGEST + 1)
        if len(data) > LARGEST:
            raise Refusal(413, "the shard is too large")
        for file in read_files(data):
            self._files.add_file(grant.kind, grant.repo_id, file)
        return as_json({"result": 1})

    def _known_chunks(self, request: Request, chunk: str) -> Answer:
        self._signer.granted(request, "read")
        xorb = self._files.xorb_with(chunk)
        chunks = self._files.chunks(xorb) if xorb else None
        if xorb is None or not chunks:
            raise Refusal(404, "no xorb is known to hold this chunk")
        return Answer(200, {"Content-Type": "application/octet-stream"}, write_shard(xorb, chunks, key=self._chunk_key))

    def _reconstruction(self, request: Request, file: str, version: str) -> Answer:
        grant = self._signer.granted(request, "read")
        found = self._files.oid_and_terms(file)
        if found is None or self._store.large_size(grant.kind, grant.repo_id, found[0]) is None:
            raise Refusal(404, "this repo has no such file")
        terms, offset = _within(found[1], request)
        spans = [self._span(term) for term in terms]
        shown = [{"hash": t.xorb, "unpacked_length": t.size, "range": {"start": t.start, "end": t.stop}} for t in terms]
        fetch: dict[str, Any] = {}
        for span in dict.fromkeys(spans):
            fetch.setdefault(span[0].xorb, []).append(self._address(span, version))
        return as_json(
            {
                "offset_into_first_range": offset, "terms": shown,
                "fetch_info" if version == "v1" else "xorbs": fetch,
            }
        )  # fmt: skip

    def _span(self, term: Term) -> Span:
        chunks = self._files.chunks(term.xorb) or []
        return term, chunks[term.start].start, chunks[term.stop - 1].stop - 1

    def _address(self, span: Span, version: str) -> dict[str, Any]:
        term, first, last = span
        signature = self._signer.query("xorb", term.xorb, f"{first}-{last}")
        url = f"{self._cdn}/_xet/xorb/{term.xorb}?range={first}-{last}&{signature}"
        chunks, where = {"start": term.start, "end": term.stop}, {"start": first, "end": last}
        if version == "v1":
            return {"range": chunks, "url": url, "url_range": where}
        return {"url": url, "ranges": [{"chunks": chunks, "bytes": where}]}

    def _range_of(self, request: Request, xorb: str) -> Answer:
        allowed = request.parameter("range")
        self._signer.check(request, "xorb", xorb, allowed)
        if request.headers.get("range") != f"bytes={allowed}":
            raise Refusal(403, "the address is signed for another range")
        path = self._files.place(xorb)
        headers = {"ETag": f'"{xorb}"', "Content-Type": "application/octet-stream"}
        return ranged(request, Answer(200, headers, file=path, length=path.stat().st_size))


def _within(terms: list[Term], request: Request) -> tuple[list[Term], int]:
    """Return the terms that hold the range of the request, and where in the first it starts. Raise Refusal 416."""
    total = sum(term.size for term in terms)
    match = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("range", ""))
    start = int(match[1]) if match else 0
    stop = min(int(match[2]) + 1, total) if match and match[2] else total
    if start >= stop:
        raise Refusal(416, "the range is beyond the file")
    held: list[Term] = []
    position = offset = 0
    for term in terms:
        if position < stop and position + term.size > start:
            offset = offset if held else start - position
            held.append(term)
        position += term.size
    return held, offset
