"""Content: downloads by revision, and large files in and out through signed addresses.

Large files are read from `localhost`, another origin than the endpoint at 127.0.0.1, as the public Hub reads them from
a CDN: a client that sent its token there would be found out.
"""

from __future__ import annotations

import functools
import json
import re
import tempfile
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from hubdpo.loopback import gitio
from hubdpo.loopback.access import may_propose, may_read, still_readable
from hubdpo.loopback.fields import Fields, sent_fields
from hubdpo.loopback.limits import LARGEST_FILE
from hubdpo.loopback.room import check_room
from hubdpo.loopback.signing import Signer
from hubdpo.loopback.store import Store
from hubdpo.loopback.wire import Answer, Refusal, Request, as_json, ranged
from hubdpo.loopback.xet.store import XetStore

IN_MEMORY = 256 * 2**10
"""Most bytes of a regular file that wait in memory for a client to read them."""
OID = re.compile(r"[0-9a-f]{64}")


class Files:
    def __init__(self, store: Store, xet: XetStore, signer: Signer, endpoint: str) -> None:
        self._store, self._xet, self._signer, self._endpoint = store, xet, signer, endpoint
        self._cdn = endpoint.replace("127.0.0.1", "localhost")
        self._reading = threading.Lock()

    def resolve(self, request: Request, kind: str, repo_id: str, revision: str, path: str) -> Answer:
        reader = _reader(request, may_read(self._store, request, kind, repo_id))
        with self._store.git(kind, repo_id) as repo:
            commit = gitio.resolve(repo, revision)
            blob, data = gitio.read(repo, commit, path)
        headers = {"X-Repo-Commit": commit.decode(), "ETag": f'"{blob.decode()}"'}
        if large := gitio.parse_pointer(data):
            oid, size = large
            headers |= {
                "X-Linked-Size": str(size),
                "X-Linked-Etag": f'"{oid}"',
                "Location": self._address(kind, repo_id, reader, oid),
            }
            if xet_hash := self._xet.hash_of(kind, repo_id, oid):
                # absolute: a client takes a relative one for an address without a host
                prefix = f"{self._endpoint}/api/{kind}s/{repo_id}"
                headers["X-Xet-Hash"] = xet_hash
                headers["Link"] = f'<{prefix}/xet-read-token/{commit.decode()}>; rel="xet-auth"'
            return Answer(302, headers, b"")
        headers["Content-Type"] = "application/octet-stream"
        headers["Content-Disposition"] = f"inline; filename*=UTF-8''{quote(path.rpartition('/')[2])}"
        if len(data) <= IN_MEMORY:
            return ranged(request, Answer(200, headers, data))
        source = functools.partial(self._from_disk, kind, repo_id, blob)
        return ranged(request, Answer(200, headers, source=source, length=len(data)))

    def _from_disk(self, kind: str, repo_id: str, blob: bytes, start: int) -> Iterator[bytes]:
        """Yield a regular file from a byte on, by a nameless file on disk: many may read it slowly."""
        with tempfile.TemporaryFile(dir=self._store.incoming) as spooled:
            with self._reading, self._store.git(kind, repo_id) as repo:  # one at a time stands in memory
                spooled.write(repo.object_store[blob].data)
            spooled.seek(start)
            while piece := spooled.read(2**16):
                yield piece

    def from_cdn(self, request: Request, oid: str) -> Answer:
        """Send a large file, unpacked when it came by Xet."""
        where = self._signer.check_repo(request, "cdn", oid)
        still_readable(self._store, *where)
        if self._store.large_size(*where[1:], oid) is None:
            raise Refusal(404, "no such large file")
        path = self._store.large_file(oid)
        headers = {"ETag": f'"{oid}"', "Content-Type": "application/octet-stream"}
        if path.exists():
            return ranged(request, Answer(200, headers, file=path, length=path.stat().st_size))
        xet_hash = self._xet.hash_of(*where[1:], oid)
        if xet_hash is None:
            raise Refusal(404, "no such large file")
        source = functools.partial(self._xet.read, xet_hash)
        return ranged(request, Answer(200, headers, source=source, length=self._xet.size_of(xet_hash)))

    def batch(self, request: Request, kind: str, repo_id: str) -> Answer:
        """Answer git-lfs's batch call: an address for each object that is not here yet."""
        asked = sent_fields(request)
        upload = asked.text("operation") == "upload"
        (may_propose if upload else may_read)(self._store, request, kind, repo_id)
        objects = [Fields(item) for item in asked.items("objects")]
        if upload:
            self._check_room([item.count("size") for item in objects])
        reader = _reader(request, may_read(self._store, request, kind, repo_id))
        shown = [self._object(kind, repo_id, reader, item, upload) for item in objects]
        content = json.dumps({"transfer": "basic", "objects": shown}).encode()
        return Answer(200, {"Content-Type": "application/vnd.git-lfs+json"}, content)

    def _check_room(self, sizes: list[int]) -> None:
        """Raise Refusal 413 for a file that is larger than any may be, 507 for files that the disk has no room for."""
        if max(sizes, default=0) > LARGEST_FILE:
            raise Refusal(413, f"a large file has at most {LARGEST_FILE:,} bytes")
        check_room(self._store.root, sum(sizes))

    def _object(self, kind: str, repo_id: str, reader: str, item: Fields, upload: bool) -> dict[str, object]:
        oid, size = item.text("oid"), item.count("size")
        shown: dict[str, object] = {"oid": oid, "size": size, "authenticated": True}
        here = self._store.large_size(kind, repo_id, oid)
        if not OID.fullmatch(oid):
            shown["error"] = {"code": 422, "message": "invalid object"}
        elif not upload and here is None:
            shown["error"] = {"code": 404, "message": "object not found"}
        elif not upload:
            shown["actions"] = {"download": {"href": self._address(kind, repo_id, reader, oid)}}
        elif here is None:
            place = f"{kind}/{quote(repo_id, safe='')}/{oid}/{size}"
            signature = self._signer.repo_query(kind, repo_id, reader, "put", oid, str(size))
            prefix = "" if kind == "model" else f"{kind}s/"
            verify = f"{self._endpoint}/{prefix}{repo_id}.git/info/lfs/objects/verify"
            shown["actions"] = {
                "upload": {"href": f"{self._endpoint}/_lfs/{place}?{signature}", "header": {}},
                "verify": {"href": verify},
            }
        return shown

    def put(self, request: Request, kind: str, repo_id: str, oid: str, size: str) -> Answer:
        where = self._signer.check_repo(request, "put", oid, size)
        if where[1:] != (kind, repo_id):
            raise Refusal(403, "the address is signed for another repo")
        still_readable(self._store, *where)
        request.body.trust()
        request.body.allow(int(size))
        self._store.receive(kind, repo_id, oid, int(size), request.body)
        return Answer(200, {"ETag": f'"{oid}"'})

    def verify(self, request: Request, kind: str, repo_id: str) -> Answer:
        may_propose(self._store, request, kind, repo_id)
        asked = sent_fields(request)
        if self._store.large_size(kind, repo_id, asked.text("oid")) != asked.count("size"):
            raise Refusal(404, "the object is not here, or has another size")
        return as_json({})

    def _address(self, kind: str, repo_id: str, reader: str, oid: str) -> str:
        return f"{self._cdn}/_cdn/{oid}?{self._signer.repo_query(kind, repo_id, reader, 'cdn', oid)}"


def _reader(request: Request, repo: dict[str, Any]) -> str:
    """Return whom an address is signed for: the user of a private repo, else anybody, as long as it stays public."""
    return request.user.name if request.user and repo["private"] else ""
