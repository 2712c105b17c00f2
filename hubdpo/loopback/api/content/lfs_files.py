"""Large files of a repo: listed, deleted for good, and copied to another repo without a second upload."""

from __future__ import annotations

from dulwich.objects import Blob

from hubdpo.loopback import gitio, reach
from hubdpo.loopback.api.access import may_propose, may_read, may_write
from hubdpo.loopback.api.community.pulls import Pulls
from hubdpo.loopback.http.requests import Fields, sent_fields
from hubdpo.loopback.http.wire import JSON, Answer, Refusal, Request, as_json
from hubdpo.loopback.limits import MOST_NAMED
from hubdpo.loopback.names import repo_kind
from hubdpo.loopback.storage.store import Large, Repo, Store
from hubdpo.loopback.xet.store import XetStore


class LfsFiles:
    def __init__(self, store: Store, xet: XetStore, pulls: Pulls) -> None:
        self._store, self._xet, self._pulls = store, xet, pulls

    def listing(self, request: Request, repo: Repo) -> Answer:
        """Return the large files of a repo, for its owner, each with one of its names, newest upload first."""
        may_write(request, repo)
        pointers = {pointer_blob(large): large for large in self._store.large_of(repo)}
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
                pointers = {pointer_blob(large) for large in deleted}
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


def pointer_blob(large: Large) -> bytes:
    return bytes(Blob.from_string(gitio.pointer(large.oid, large.size)).id)
