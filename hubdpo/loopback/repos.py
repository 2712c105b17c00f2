"""Repos as the API shows them: creation, information, refs, history, trees."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qs, urlencode

from dulwich.walk import Walker

from hubdpo.loopback import gitio
from hubdpo.loopback.access import may_read, may_write, readable
from hubdpo.loopback.card_checks import card_data
from hubdpo.loopback.fields import Fields, sent_fields
from hubdpo.loopback.limits import LARGEST_JSON, MOST_NAMED
from hubdpo.loopback.names import repo_kind, repo_name
from hubdpo.loopback.store import Store
from hubdpo.loopback.wire import Answer, Refusal, Request, as_json
from hubdpo.loopback.xet.store import XetStore

LARGE_ENDINGS = """
    7z arrow bin bz2 ckpt gz h5 joblib model msgpack npy npz onnx parquet pb pickle pkl pt pth rar safetensors tar
    tflite tgz wasm xz zip zst
"""
GIT_ATTRIBUTES = "".join(
    f"{pattern} filter=lfs diff=lfs merge=lfs -text\n"
    for pattern in [*(f"*.{ending}" for ending in LARGE_ENDINGS.split()), "*tfevents*"]
).encode()
PAGE = 1000
REF_GROUPS = (("branches", "refs/heads/"), ("tags", "refs/tags/"), ("pullRequests", "refs/pr/"))


class Repos:
    def __init__(self, store: Store, xet: XetStore, endpoint: str) -> None:
        self._store, self._xet, self._endpoint = store, xet, endpoint

    def url(self, kind: str, repo_id: str) -> str:
        return f"{self._endpoint}/{'' if kind == 'model' else kind + 's/'}{repo_id}"

    def create(self, request: Request) -> Answer:
        asked = sent_fields(request)
        kind, name = repo_kind(asked.text("type")), repo_name(asked.text("name"))
        if request.user is None:
            raise Refusal(401, "Invalid username or password.")
        owner = asked.text("organization") or request.user.name
        repo_id = f"{owner}/{name}"
        if owner != request.user.name or not request.user.may_write:
            raise Refusal(403, f'You don\'t have the rights to create a {kind} under the namespace "{owner}"')
        with self._store.lock(kind, repo_id):
            if self._store.repo(kind, repo_id):
                raise Refusal(409, f"You already created this {kind} repo: {repo_id}", url=self.url(kind, repo_id))
            with self._store.init_git(kind, repo_id) as repo:
                files = {b".gitattributes": (gitio.FILE_MODE, gitio.add_blob(repo, GIT_ATTRIBUTES))}
                gitio.write_commit(repo, b"refs/heads/main", None, files, "initial commit", "system")
                self._store.add_repo(kind, repo_id, private=_is_private(asked))
        return as_json({"url": self.url(kind, repo_id), "name": repo_id, "id": _identifier(repo_id)})

    def delete(self, request: Request) -> Answer:
        asked = sent_fields(request)
        owner = asked.text("organization") or (request.user.name if request.user else "")
        kind, repo_id = repo_kind(asked.text("type")), f"{owner}/{asked.text('name')}"
        may_write(self._store, request, kind, repo_id)
        with self._store.lock(kind, repo_id):
            self._store.drop_repo(kind, repo_id)
        return as_json({})

    def list(self, request: Request, kind: str) -> Answer:
        author, search = request.parameter("author"), request.parameter("search").lower()
        shown = []
        for repo_id in self._store.repo_ids(kind):
            if not readable(self._store, request.user.name if request.user else "", kind, repo_id):
                continue
            if search in repo_id.lower() and (not author or repo_id.startswith(author + "/")):
                shown.append({"id": repo_id, "modelId": repo_id, "author": repo_id.partition("/")[0]})
        return as_json(shown)

    def settings(self, request: Request, kind: str, repo_id: str) -> Answer:
        may_write(self._store, request, kind, repo_id)
        asked = sent_fields(request)
        if asked.values.get("gated"):
            raise Refusal(501, "this Hub has no gated repos; a private one is seen by its owner alone")
        if "private" in asked or "visibility" in asked:
            self._store.set_private(kind, repo_id, _is_private(asked))
        return as_json(asked.values)

    def info(self, request: Request, kind: str, repo_id: str, revision: str) -> Answer:
        found = may_read(self._store, request, kind, repo_id)
        with self._store.git(kind, repo_id) as repo:
            sha = gitio.resolve(repo, revision)
            files = gitio.files_of(repo, sha)
            try:
                readme = files.get(b"README.md")
                card = card_data(repo.object_store[readme[1]].data.decode("utf-8", "replace")) if readme else {}
            except ValueError:
                card = {}
            blobs = request.flag("blobs")
            siblings = [self._sibling(repo, path, blob, blobs) for path, (_, blob) in sorted(files.items())]
            answer: dict[str, Any] = {
                "_id": _identifier(repo_id), "id": repo_id, "author": repo_id.partition("/")[0], "sha": sha.decode(),
                "private": found["private"], "gated": False, "disabled": False, "downloads": 0, "likes": 0,
                "lastModified": gitio.iso(repo.object_store[sha].commit_time),
                "createdAt": gitio.iso(found["created"]), "tags": card.get("tags") or [], "cardData": card,
                "siblings": siblings,
            }  # fmt: skip
        if kind == "model":
            answer |= {"modelId": repo_id} | {k: card[k] for k in ("library_name", "pipeline_tag") if card.get(k)}
        return as_json(answer, X_Repo_Commit=answer["sha"])

    def _sibling(self, repo: Any, path: bytes, blob: bytes, with_blobs: bool) -> dict[str, Any]:
        if not with_blobs:
            return {"rfilename": path.decode()}
        entry = gitio.file_entry(path, blob, repo.object_store[blob].data)
        shown = {"rfilename": path.decode(), "size": entry["size"], "blobId": entry["oid"]}
        if large := entry.get("lfs"):
            shown["lfs"] = {"sha256": large["oid"], "size": large["size"], "pointerSize": large["pointerSize"]}
        return shown

    def refs(self, request: Request, kind: str, repo_id: str) -> Answer:
        may_read(self._store, request, kind, repo_id)
        shown: dict[str, list[dict[str, str]]] = {"branches": [], "converts": [], "tags": [], "pullRequests": []}
        with self._store.git(kind, repo_id) as repo:
            for ref, sha in sorted(gitio.refs_of(repo).items()):
                for group, prefix in REF_GROUPS:
                    if (name := ref.decode()).startswith(prefix):
                        target = gitio.peeled(repo, sha).decode()
                        shown[group].append({"name": name.removeprefix(prefix), "ref": name, "targetCommit": target})
        if not request.flag("include_prs"):
            del shown["pullRequests"]
        return as_json(shown)

    def commits(self, request: Request, kind: str, repo_id: str, revision: str) -> Answer:
        may_read(self._store, request, kind, repo_id)
        shown = []
        with self._store.git(kind, repo_id) as repo:
            for entry in Walker(repo.object_store, [gitio.resolve(repo, revision)], order="topo"):
                commit = entry.commit
                title, _, message = commit.message.decode("utf-8", "replace").partition("\n\n")
                author = commit.author.decode().partition(" <")[0]
                shown.append(
                    {
                        "id": commit.id.decode(), "title": title, "message": message,
                        "date": gitio.iso(commit.commit_time), "authors": [{"user": author, "avatar": ""}],
                    }
                )  # fmt: skip
        page, size = request.count("p", 0), min(request.count("limit", 50), PAGE)
        answer = as_json(shown[page * size : (page + 1) * size], X_Total_Count=str(len(shown)))
        if (page + 1) * size < len(shown):
            answer.headers["Link"] = self._next(request, {"p": page + 1, "limit": size})
        return answer

    def tree(self, request: Request, kind: str, repo_id: str, revision: str, path: str) -> Answer:
        may_read(self._store, request, kind, repo_id)
        with self._store.git(kind, repo_id) as repo:
            sha = gitio.resolve(repo, revision)
            try:
                start, thing = gitio.lookup(repo, sha, path) if path else (repo.object_store[sha].tree, None)
            except Refusal:
                raise Refusal(404, f'{path} does not exist on "{revision}"', "EntryNotFound") from None
            if thing is not None and thing.type_name == b"blob":
                entries = [gitio.file_entry(path.encode(), start, thing.data)]
            else:
                prefix = path.strip("/").encode() + b"/" if path else b""
                entries = gitio.list_tree(repo, start, prefix, recursive=request.flag("recursive"))
            if request.flag("expand"):
                entries = _with_last_commit(entries, repo, sha)
        cursor = request.count("cursor", 0)
        answer = as_json(self._with_xet(kind, repo_id, entries[cursor : cursor + PAGE]), X_Repo_Commit=sha.decode())
        if cursor + PAGE < len(entries):
            answer.headers["Link"] = self._next(request, {"cursor": cursor + PAGE})
        return answer

    def paths_info(self, request: Request, kind: str, repo_id: str, revision: str) -> Answer:
        may_read(self._store, request, kind, repo_id)
        if "json" in request.headers.get("content-type", ""):
            asked = sent_fields(request)
            paths, expand = asked.texts("paths"), asked.flag("expand")
        else:
            form = parse_qs(request.whole(LARGEST_JSON).decode("utf-8", "replace"))
            paths, expand = form.get("paths", []), form.get("expand", [""])[0].lower() == "true"
        names = dict.fromkeys("/".join(part for part in path.split("/") if part) for path in paths)
        if len(names) > MOST_NAMED:
            raise Refusal(413, f"one request names at most {MOST_NAMED:,} paths")
        entries: list[dict[str, Any]] = []
        with self._store.git(kind, repo_id) as repo:
            sha = gitio.resolve(repo, revision)
            read = functools.lru_cache(maxsize=16)(repo.object_store.__getitem__)  # the folders above the paths
            known: dict[bytes, dict[str, Any]] = {}  # by object: each is read once, however many names it has
            for name in names:
                try:
                    found = gitio.find(read, sha, name)
                except Refusal:
                    continue
                if found not in known:
                    thing = repo.object_store[found]
                    is_file = thing.type_name == b"blob"
                    known[found] = (
                        gitio.file_entry(b"", found, thing.data) if is_file else gitio.folder_entry(b"", found)
                    )
                entries.append(known[found] | {"path": name})
            if expand:
                entries = _with_last_commit(entries, repo, sha)
        return as_json(self._with_xet(kind, repo_id, entries), X_Repo_Commit=sha.decode())

    def _with_xet(self, kind: str, repo_id: str, entries: Sequence[dict[str, Any]]) -> Sequence[dict[str, Any]]:
        for entry in entries:
            if "lfs" in entry and (known := self._xet.hash_of(kind, repo_id, entry["lfs"]["oid"])):
                entry["xetHash"] = known
        return entries

    def _next(self, request: Request, changed: dict[str, int]) -> str:
        query = {key: values[0] for key, values in parse_qs(request.query).items()} | changed
        return f'<{self._endpoint}{request.path}?{urlencode(query)}>; rel="next"'


def _with_last_commit(entries: list[dict[str, Any]], repo: Any, sha: bytes) -> list[dict[str, Any]]:
    """Name the commit that was asked about as the last one that changed each entry."""
    commit = repo.object_store[sha]
    last = {"id": sha.decode(), "title": commit.message.decode().partition("\n")[0]}
    return [{**entry, "lastCommit": {**last, "date": gitio.iso(commit.commit_time)}} for entry in entries]


def _is_private(asked: Fields) -> bool:
    visibility = asked.text("visibility")
    if visibility not in ("", "private", "public"):
        raise Refusal(400, "`visibility` must be private or public")
    if "private" in asked and visibility and asked.flag("private") != (visibility == "private"):
        raise Refusal(400, "`private` and `visibility` contradict each other")
    return asked.flag("private") or visibility == "private"


def _identifier(repo_id: str) -> str:
    return hashlib.sha256(repo_id.encode()).hexdigest()[:24]
