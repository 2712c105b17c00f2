"""File content: downloads by revision; large files in and out through signed URLs, listed, deleted and copied."""

from __future__ import annotations

import functools
import json
import re
import tempfile
import threading
from collections.abc import Iterator
from urllib.parse import quote

from hubdpo.loopback import gitio, reach
from hubdpo.loopback.api.access import may_propose, may_read, may_write, still_readable
from hubdpo.loopback.api.community.pulls import Pulls
from hubdpo.loopback.api.elsewhere import CLONING
from hubdpo.loopback.http.requests import Fields, sent_fields
from hubdpo.loopback.http.wire import JSON, Answer, Refusal, Request, as_json, file_answer, ranged
from hubdpo.loopback.limits import LARGEST_FILE, MOST_NAMED, check_room
from hubdpo.loopback.names import repo_kind
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
    def __init__(self, store: Store, xet: XetStore, signer: Signer, pulls: Pulls, endpoint: str) -> None:
        self._store, self._xet, self._signer, self._pulls, self._endpoint = store, xet, signer, pulls, endpoint
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
            signature = self._signer.query(repo.kind, repo.id, _signed_reader(request, repo), "cdn", oid)
            headers["Location"] = f"{self._cdn}/_cdn/{oid}?{signature}"
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
        """Answer the batch call of git-lfs with a URL for each object that has to be uploaded."""
        fields = sent_fields(request)
        if fields.text("operation") != "upload":
            raise Refusal(501, f"this Hub has no {CLONING}")
        may_propose(request, repo)
        objects = [Fields(item) for item in fields.items("objects")]
        sizes = [item.count("size") for item in objects]
        if max(sizes, default=0) > LARGEST_FILE:
            raise Refusal(413, f"a large file has at most {LARGEST_FILE:,} bytes")
        check_room(self._store.root, sum(sizes))
        reader = _signed_reader(request, repo)
        content = {"transfer": "basic", "objects": [self._object(repo, reader, item) for item in objects]}
        return Answer(200, {"Content-Type": "application/vnd.git-lfs+json"}, json.dumps(content).encode())

    def _object(self, repo: Repo, reader: str, item: Fields) -> JSON:
        oid, size = item.text("oid"), item.count("size")
        entry: JSON = {"oid": oid, "size": size, "authenticated": True}
        if not re.fullmatch("[0-9a-f]{64}", oid):
            entry["error"] = {"code": 422, "message": "invalid object"}
        elif self._store.large_size(repo, oid) is None:
            path = f"{repo.kind}/{quote(repo.id, safe='')}/{oid}/{size}"
            signature = self._signer.query(repo.kind, repo.id, reader, "put", oid, str(size))
            entry["actions"] = {
                "upload": {"href": f"{self._endpoint}/_lfs/{path}?{signature}", "header": {}},
                "verify": {"href": f"{self._endpoint}/{repo.page}.git/info/lfs/objects/verify"},
            }
        return entry

    def put(self, request: Request, kind: str, repo_id: str, oid: str, size: str) -> Answer:
        """Store a large file sent to a signed URL."""
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

    def listing(self, request: Request, repo: Repo) -> Answer:
        """Return the large files of a repo, for its owner, each with one of its names, newest upload first."""
        may_write(request, repo)
        pointers = {gitio.pointer_id(large.oid, large.size): large for large in self._store.large_of(repo)}
        with self._store.git(repo) as git:
            names = reach.named_blobs(git, {*pointers})
        entries: list[JSON] = []
        for blob, large in sorted(pointers.items(), key=lambda item: (-item[1].pushed, item[1].oid)):
            name, ref = names.get(blob, (large.oid, None))  # a file that was uploaded and not committed has no name
            entry = {"fileOid": large.oid, "oid": large.oid, "filename": name, "size": large.size, "ref": ref}
            if xet_hash := self._xet.hash_of(repo, large.oid):
                entry["xetHash"] = xet_hash
            entries.append(entry | {"pushedAt": gitio.iso(large.pushed)})
        return as_json(entries)

    def delete(self, request: Request, repo: Repo) -> Answer:
        """Take large files out of a repo and, with `rewriteHistory`, their pointers out of all its commits.

        `serve-hub DIR --gc` then removes from the disk what no other repo has.
        """
        may_write(request, repo)
        deletions = sent_fields(request).object("deletions")
        oids = {*deletions.texts("sha")}
        if len(oids) > MOST_NAMED:
            raise Refusal(413, f"one request names at most {MOST_NAMED:,} files")
        with self._store.changing(repo) as git:
            deleted = [large for large in self._store.large_of(repo) if large.oid in oids]
            if unknown := oids - {large.oid for large in deleted}:
                raise Refusal(404, f"this repo has no large file {min(unknown)}", "EntryNotFound")
            # first the pointers: a server that is killed here leaves files that can be deleted again
            if deletions.flag("rewriteHistory"):
                pointers = {gitio.pointer_id(large.oid, large.size) for large in deleted}
                self._pulls.follow(repo, reach.rewrite_without(git, pointers, self._pulls.commits(repo, git)))
            self._store.unlink_large(repo, oids)
        return as_json({"deleted": len(deleted)})

    def duplicate(self, request: Request, source: Repo) -> Answer:
        """Let another repo refer to large files of this one, so that a commit there can name them."""
        fields = sent_fields(request)
        named, files = fields.object("target"), [Fields(file) for file in fields.items("files")]
        target = may_read(self._store, request, repo_kind(named.text("type")), named.text("name"))
        may_propose(request, target)
        if len(files) > MOST_NAMED:
            raise Refusal(413, f"one request names at most {MOST_NAMED:,} files")
        done: list[JSON] = []
        failed: list[JSON] = []
        for oid in (file.text("sha256") for file in files):
            size = self._store.large_size(source, oid)
            if size is None:
                failed.append({"sha256": oid, "error": f"{source.id} has no such file"})
            else:
                self._store.link_large(target, oid, size)
                done.append({"sha256": oid})
        return as_json({"success": done, "failed": failed})


def _signed_reader(request: Request, repo: Repo) -> str:
    """Return the reader to sign a URL for: the user of a private repo, else anyone as long as the repo is public."""
    return request.reader if repo.private else ""
