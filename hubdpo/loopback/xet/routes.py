"""The Xet transport as its client asks for it: tokens, xorbs and shards in, reconstructions and ranges of xorbs out.

Xorbs are read from another origin than the endpoint, by addresses that are each signed for one range.
"""

from __future__ import annotations

import json
import re
from typing import Any

from hubdpo.loopback.access import may_propose, may_read, still_readable
from hubdpo.loopback.room import check_room
from hubdpo.loopback.signing import Grant, Signer
from hubdpo.loopback.store import Store
from hubdpo.loopback.wire import Answer, Refusal, Request, as_json, ranged
from hubdpo.loopback.xet.shards import LARGEST as LARGEST_SHARD
from hubdpo.loopback.xet.shards import Term, read_files, write_shard
from hubdpo.loopback.xet.store import XetStore
from hubdpo.loopback.xet.xorbs import LARGEST

HASH = re.compile(r"[0-9a-f]{64}")
Span = tuple[int, int]
"""The first chunk of a run of them in a xorb, and the one after the last."""


class Xet:
    def __init__(self, store: Store, files: XetStore, signer: Signer, endpoint: str) -> None:
        self._store, self._files, self._signer, self._endpoint = store, files, signer, endpoint
        self._cdn = endpoint.replace("127.0.0.1", "localhost")
        self._chunk_key = signer.key("chunks")

    def token(self, request: Request, kind: str, repo_id: str, scope: str) -> Answer:
        """Grant a token to read the large files of one repo, or to send some; a commit to it is another matter."""
        (may_propose if scope == "write" else may_read)(self._store, request, kind, repo_id)
        token, until = self._signer.token(scope, kind, repo_id, request.user.name if request.user else "")
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
            case "POST", ["v1" | "v2" as version, "shards"]:
                return self._take_shard(request, version)
            case "GET", ["v1" | "v2" as version, "reconstructions", file]:
                return self._reconstruction(request, file, version)
        raise Refusal(404, "Not found")

    def _granted(self, request: Request, scope: str) -> Grant:
        grant = self._signer.granted(request, scope)
        still_readable(self._store, grant.reader, grant.kind, grant.repo_id)
        return grant

    def _take_xorb(self, request: Request, xorb: str) -> Answer:
        self._granted(request, "write")
        if not HASH.fullmatch(xorb):
            raise Refusal(400, "not the hash of a xorb")
        data = request.whole(LARGEST)
        check_room(self._store.root, len(data))
        return as_json({"was_inserted": self._files.add_xorb(xorb, data)})

    def _take_shard(self, request: Request, version: str) -> Answer:
        """Know the files of a shard. Version 2 tells its progress in lines, of which the last is the result."""
        grant = self._granted(request, "write")
        data = request.whole(LARGEST_SHARD)
        check_room(self._store.root, len(data))
        files = read_files(data)
        for file in files:
            self._files.add_file(grant.kind, grant.repo_id, file)
        if version == "v1":
            return as_json({"result": 1})
        lines = [{"type": "validating", "verified": len(files), "total": len(files)}, {"type": "result"}]
        content = "".join(json.dumps(line) + "\n" for line in lines).encode()
        return Answer(200, {"Content-Type": "application/x-ndjson"}, content)

    def _known_chunks(self, request: Request, chunk: str) -> Answer:
        self._granted(request, "read")
        xorb = self._files.xorb_with(chunk)
        chunks = self._files.chunks(xorb) if xorb else None
        if xorb is None or not chunks:
            raise Refusal(404, "no xorb is known to hold this chunk")
        return Answer(200, {"Content-Type": "application/octet-stream"}, write_shard(xorb, chunks, key=self._chunk_key))

    def _reconstruction(self, request: Request, file: str, version: str) -> Answer:
        grant = self._granted(request, "read")
        found = self._files.oid_and_terms(file)
        if found is None or self._store.large_size(grant.kind, grant.repo_id, found[0]) is None:
            raise Refusal(404, "this repo has no such file")
        terms, offset = _within(found[1], request)
        shown = [{"hash": t.xorb, "unpacked_length": t.size, "range": {"start": t.start, "end": t.stop}} for t in terms]
        fetch = {
            xorb: [
                self._address(grant, xorb, span, version)
                for span in _joined([(t.start, t.stop) for t in terms if t.xorb == xorb])
            ]
            for xorb in dict.fromkeys(term.xorb for term in terms)
        }
        return as_json(
            {
                "offset_into_first_range": offset, "terms": shown,
                "fetch_info" if version == "v1" else "xorbs": fetch,
            }
        )  # fmt: skip

    def _address(self, grant: Grant, xorb: str, span: Span, version: str) -> dict[str, Any]:
        chunks = self._files.chunks(xorb) or []
        first, last = chunks[span[0]].start, chunks[span[1] - 1].stop - 1
        signature = self._signer.repo_query(grant.kind, grant.repo_id, grant.reader, "xorb", xorb, f"{first}-{last}")
        url = f"{self._cdn}/_xet/xorb/{xorb}?range={first}-{last}&{signature}"
        held, where = {"start": span[0], "end": span[1]}, {"start": first, "end": last}
        if version == "v1":
            return {"range": held, "url": url, "url_range": where}
        return {"url": url, "ranges": [{"chunks": held, "bytes": where}]}

    def _range_of(self, request: Request, xorb: str) -> Answer:
        allowed = request.parameter("range")
        still_readable(self._store, *self._signer.check_repo(request, "xorb", xorb, allowed))
        if request.headers.get("range") != f"bytes={allowed}":
            raise Refusal(403, "the address is signed for another range")
        path = self._files.place(xorb)
        headers = {"ETag": f'"{xorb}"', "Content-Type": "application/octet-stream"}
        return ranged(request, Answer(200, headers, file=path, length=path.stat().st_size))


def _joined(spans: list[Span]) -> list[Span]:
    """Join runs that touch or overlap: the client takes each run for the only one that holds its chunks."""
    joined: list[Span] = []
    for start, stop in sorted(spans):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(stop, joined[-1][1]))
        else:
            joined.append((start, stop))
    return joined


def _within(terms: list[Term], request: Request) -> tuple[list[Term], int]:
    """Return the terms that hold the range of the request, and where in the first it starts. Raise Refusal 416."""
    total = sum(term.size for term in terms)
    match = re.fullmatch(r"bytes=([0-9]{1,18})-([0-9]{0,18})", request.headers.get("range", ""))
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
