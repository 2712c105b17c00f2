"""Trees in the API: the files and folders of a revision, or of some paths in it, and when each last changed."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from urllib.parse import parse_qs

from dulwich.objects import Tree
from dulwich.repo import Repo as GitRepo

from hubdpo.loopback import gitio
from hubdpo.loopback.http.requests import sent_fields
from hubdpo.loopback.http.wire import JSON, Answer, Refusal, Request, as_json, next_page
from hubdpo.loopback.last_commits import LastCommits
from hubdpo.loopback.limits import LARGEST_JSON, MOST_NAMED
from hubdpo.loopback.storage.store import Repo, Store
from hubdpo.loopback.xet.store import XetStore

PAGE = 1000


class Trees:
    def __init__(self, store: Store, xet: XetStore, endpoint: str) -> None:
        self._store, self._xet, self._endpoint = store, xet, endpoint
        self._last_commits = LastCommits()

    def tree(self, request: Request, repo: Repo, revision: str, path: str) -> Answer:
        cursor = request.count("cursor", 0)
        with self._store.git(repo) as git:
            sha = gitio.resolve(git, revision)
            try:
                start = gitio.find(git.object_store.__getitem__, sha, path) if path else git.object_store[sha].tree
            except Refusal:
                raise Refusal(404, f'{path} does not exist on "{revision}"', "EntryNotFound") from None
            found = [(path.encode(), start)]
            if isinstance(git.object_store[start], Tree):
                prefix = path.strip("/").encode() + b"/" if path else b""
                found = gitio.list_tree(git, start, prefix, recursive=request.flag("recursive"))
            entries = [gitio.tree_entry(git, name, oid) for name, oid in found[cursor : cursor + PAGE]]
            if request.flag("expand"):
                entries = self._with_last_commits(git, sha, entries)
        answer = as_json(self._with_xet(repo, entries), X_Repo_Commit=sha.decode())
        if cursor + PAGE < len(found):
            answer.headers["Link"] = next_page(self._endpoint, request, cursor=cursor + PAGE)
        return answer

    def paths_info(self, request: Request, repo: Repo, revision: str) -> Answer:
        if "json" in request.headers.get("content-type", ""):
            fields = sent_fields(request)
            paths, expand = fields.texts("paths"), fields.flag("expand")
        else:
            form = parse_qs(request.whole(LARGEST_JSON).decode("utf-8", "replace"))
            paths, expand = form.get("paths", []), form.get("expand", [""])[0].lower() == "true"
        names = dict.fromkeys("/".join(part for part in path.split("/") if part) for path in paths)
        if len(names) > MOST_NAMED:
            raise Refusal(413, f"one request names at most {MOST_NAMED:,} paths")
        entries: list[JSON] = []
        with self._store.git(repo) as git:
            sha = gitio.resolve(git, revision)
            read = functools.lru_cache(maxsize=16)(git.object_store.__getitem__)  # the folders above the paths
            known: dict[bytes, JSON] = {}  # by object id: each object is read once, however many paths it has
            for name in names:
                try:
                    oid = gitio.find(read, sha, name)
                except Refusal:
                    continue
                if oid not in known:
                    known[oid] = gitio.tree_entry(git, b"", oid)
                entries.append(known[oid] | {"path": name})
            if expand:
                entries = self._with_last_commits(git, sha, entries)
        return as_json(self._with_xet(repo, entries), X_Repo_Commit=sha.decode())

    def _with_last_commits(self, git: GitRepo, sha: bytes, entries: list[JSON]) -> list[JSON]:
        last = self._last_commits.of(git, sha)

        @functools.cache
        def described(commit_id: bytes) -> JSON:
            commit = git.object_store[commit_id]
            title = commit.message.decode("utf-8", "replace").partition("\n")[0]
            return {"id": commit_id.decode(), "title": title, "date": gitio.iso(commit.commit_time)}

        return [entry | {"lastCommit": described(last[entry["path"].encode()])} for entry in entries]

    def _with_xet(self, repo: Repo, entries: Sequence[JSON]) -> Sequence[JSON]:
        for entry in entries:
            if "lfs" in entry and (xet_hash := self._xet.hash_of(repo, entry["lfs"]["oid"])):
                entry["xetHash"] = xet_hash
        return entries
