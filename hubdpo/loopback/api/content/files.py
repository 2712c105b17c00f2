"""File content: downloads by revision, and large files in and out through signed URLs."""

from __future__ import annotations

import functools
import json
import re
import tempfile
import threading
from collections.abc import Iterator
from urllib.parse import quote

from hubdpo.loopback import gitio
from hubdpo.loopback.api.access import may_propose, still_readable
from hubdpo.loopback.http.requests import Fields, sent_fields
from hubdpo.loopback.http.wire import JSON, Answer, Refusal, Request, as_json, file_answer, ranged
from hubdpo.loopback.limits import LARGEST_FILE, check_room
from hubdpo.loopback.storage.store import Repo, Store
from hubdpo.loopback.storage.tokens import Signer
from hubdpo.loopback.xet.store import XetStore

IN_MEMORY = 256 * 2**10
"""Largest regular file, in bytes, that is held in memory while a client reads it."""
NEVER_SHOWN = {
    "Content-Type": "application/octet-stream", "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; sandbox",
}  # fmt: skip
"""No browser shows a file of a repo as a page: it would be one of this Hub, and could read what the visitor may."""


class Files:
    def __init__(self, store: Store, xet: XetStore, signer: Signer, endpoint: str) -> None:
        self._store, self._xet, self._signer, self._endpoint = store, xet, signer, endpoint
        # another origin, like the CDN of huggingface.co: a client that wrongly sends its token there is noticed
        self._cdn = endpoint.replace("127.0.0.1", "localhost")
        self._reading = threading.Lock()

    def resolve(self, request: Request, repo: Repo, revision: str, path: str) -> Answer:
        """Return a regular file, or redirect to the signed URL of a large one."""
        with self._store.git(repo) as git:
            commit = gitio.resolve(git, revision)
            blob, data = gitio.read(git, commit, path)
        headers = {"X-Repo-Commit": commit.decode(), "ETag": f'"{blob.decode()}"'}
        if large := gitio.parse_pointer(data):
            oid, size = large
            headers |= {"X-Linked-Size": str(size), "X-Linked-Etag": f'"{oid}"'}
            headers["Location"] = self._download_url(repo, _signed_reader(request, repo), oid)
            if xet_hash := self._xet.hash_of(repo, oid):
                # absolute: clients read a relative URL as one without a host
                prefix = f"{self._endpoint}/api/{repo.kind}s/{repo.id}"
                headers["X-Xet-Hash"] = xet_hash
                headers["Link"] = f'<{prefix}/xet-read-token/{commit.decode()}>; rel="xet-auth"'
            return Answer(302, headers, b"")
        headers |= NEVER_SHOWN
        headers["Content-Disposition"] = f"inline; filename*=UTF-8''{quote(path.rpartition('/')[2])}"
        if len(data) <= IN_MEMORY:
            return ranged(request, Answer(200, headers, data))
        source = functools.partial(self._from_disk, repo, blob)
        return ranged(request, Answer(200, headers, source=source, length=len(data)))

    def _from_disk(self, repo: Repo, blob: bytes, start: int) -> Iterator[bytes]:
        """Yield a regular file from an offset on, through an unnamed temporary file: many clients may read slowly."""
        with tempfile.TemporaryFile(dir=self._store.incoming) as spooled:
            with self._reading, self._store.git(repo) as git:  # at most one such file is in memory
                spooled.write(git.object_store[blob].data)
            spooled.seek(start)
            while piece := spooled.read(2**16):
                yield piece

    def from_cdn(self, request: Request, oid: str) -> Answer:
        """Send a large file; rebuild one that was uploaded by Xet from its chunks."""
        repo = still_readable(self._store, *self._signer.check(request, "cdn", oid))
        size = self._store.large_size(repo, oid)
        if size is None:
            raise Refusal(404, "no such large file")
        path = self._store.large_file(oid)
        headers = {"ETag": f'"{oid}"', **NEVER_SHOWN}
        if path.exists():
            return file_answer(request, path, headers)
        return ranged(request, Answer(200, headers, source=functools.partial(self._xet.read, oid), length=size))

    def batch(self, request: Request, repo: Repo) -> Answer:
        """Answer the batch call of git-lfs with a URL for each object that has to be transferred."""
        fields = sent_fields(request)
        upload = fields.text("operation") == "upload"
        objects = [Fields(item) for item in fields.items("objects")]
        if upload:
            may_propose(request, repo)
            sizes = [item.count("size") for item in objects]
            if max(sizes, default=0) > LARGEST_FILE:
                raise Refusal(413, f"a large file has at most {LARGEST_FILE:,} bytes")
            check_room(self._store.root, sum(sizes))
        reader = _signed_reader(request, repo)
        content = {"transfer": "basic", "objects": [self._object(repo, reader, item, upload) for item in objects]}
        return Answer(200, {"Content-Type": "application/vnd.git-lfs+json"}, json.dumps(content).encode())

    def _object(self, repo: Repo, reader: str, item: Fields, upload: bool) -> JSON:
        oid, size = item.text("oid"), item.count("size")
        entry: JSON = {"oid": oid, "size": size, "authenticated": True}
        here = self._store.large_size(repo, oid)
        if not re.fullmatch("[0-9a-f]{64}", oid):
            entry["error"] = {"code": 422, "message": "invalid object"}
        elif not upload and here is None:
            entry["error"] = {"code": 404, "message": "object not found"}
        elif not upload:
            entry["actions"] = {"download": {"href": self._download_url(repo, reader, oid)}}
        elif here is None:
            path = f"{repo.kind}/{quote(repo.id, safe='')}/{oid}/{size}"
            signature = self._signer.query(repo.kind, repo.id, reader, "put", oid, str(size))
            entry["actions"] = {
                "upload": {"href": f"{self._endpoint}/_lfs/{path}?{signature}", "header": {}},
                "verify": {"href": f"{self._endpoint}/{repo.page}.git/info/lfs/objects/verify"},
            }
        return entry

    def put(self, request: Request, kind: str, repo_id: str, oid: str, size: str) -> Answer:
        signed = self._signer.check(request, "put", oid, size)
        if (signed.kind, signed.repo_id) != (kind, repo_id):
            raise Refusal(403, "the URL is signed for another repo")
        repo = still_readable(self._store, *signed)
        request.body.trust()
        request.body.allow(int(size))
        self._store.receive(repo, oid, int(size), request.body)
        return Answer(200, {"ETag": f'"{oid}"'})

    def verify(self, request: Request, repo: Repo) -> Answer:
        may_propose(request, repo)
        fields = sent_fields(request)
        if self._store.large_size(repo, fields.text("oid")) != fields.count("size"):
            raise Refusal(404, "the object was not uploaded, or has another size")
        return as_json({})

    def _download_url(self, repo: Repo, reader: str, oid: str) -> str:
        return f"{self._cdn}/_cdn/{oid}?{self._signer.query(repo.kind, repo.id, reader, 'cdn', oid)}"


def _signed_reader(request: Request, repo: Repo) -> str:
    """Return the reader to sign a URL for: the user of a private repo, else anyone as long as the repo is public."""
    return request.reader if repo.private else ""
