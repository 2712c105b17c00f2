"""Repos in the API: create and delete, info, refs, history, trees."""

from __future__ import annotations

import contextlib

from dulwich.repo import Repo as GitRepo

from hubdpo.loopback import gitio
from hubdpo.loopback.api.access import UNGATED, known_user, may_own, may_read, may_write
from hubdpo.loopback.api.community.collections import Collections
from hubdpo.loopback.api.repos.facts import Describer
from hubdpo.loopback.http.requests import Fields, sent_fields
from hubdpo.loopback.http.wire import JSON, Answer, Refusal, Request, as_json
from hubdpo.loopback.names import repo_kind, repo_name
from hubdpo.loopback.storage.store import Repo, Store
from hubdpo.loopback.xet.store import XetStore

LARGE_ENDINGS = """
    7z arrow bin bz2 ckpt gz h5 joblib model msgpack npy npz onnx parquet pb pickle pkl pt pth rar safetensors tar
    tflite tgz wasm xz zip zst
"""
GIT_ATTRIBUTES = "".join(
    f"{pattern} filter=lfs diff=lfs merge=lfs -text\n"
    for pattern in [*(f"*.{ending}" for ending in LARGE_ENDINGS.split()), "*tfevents*"]
).encode()
SPACE_SDKS = ("static", "gradio", "docker", "streamlit")
REF_GROUPS = {"branches": "refs/heads/", "converts": "refs/convert/", "tags": "refs/tags/", "pullRequests": "refs/pr/"}


class Repos:
    def __init__(
        self, store: Store, xet: XetStore, collections: Collections, describer: Describer, endpoint: str
    ) -> None:
        self._store, self._xet, self._endpoint = store, xet, endpoint
        self._collections, self._describer = collections, describer

    def create(self, request: Request) -> Answer:
        fields = sent_fields(request)
        kind, name = repo_kind(fields.text("type")), repo_name(fields.text("name"))
        user = known_user(request)
        owner = may_own(user, fields.text("organization") or user.name, f"create a {kind}")
        if (sdk := fields.text("sdk") or SPACE_SDKS[0]) not in SPACE_SDKS:
            raise Refusal(400, f"`sdk` must be one of {', '.join(SPACE_SDKS)}")
        card = f"---\nsdk: {sdk}\n---\n".encode()
        with self._store.lock_name(kind, f"{owner}/{name}"):
            if there := self._store.named(kind, f"{owner}/{name}"):
                url = f"{self._endpoint}/{there.page}"
                raise Refusal(409, f"You already created this {kind} repo: {there.id}", url=url)
            repo = self._store.new_repo(kind, f"{owner}/{name}", _is_private(fields))
            url = f"{self._endpoint}/{repo.page}"
            with self._store.lock(repo), self._store.init_git(repo) as git:
                first = {b".gitattributes": GIT_ATTRIBUTES} | ({b"README.md": card} if kind == "space" else {})
                files = {path: (gitio.FILE_MODE, gitio.add_blob(git, content)) for path, content in first.items()}
                gitio.write_commit(git, b"refs/heads/main", None, files, "initial commit", user.name)
                self._store.add_repo(repo)
        return as_json({"url": url, "name": repo.id, "id": repo.key})

    def move(self, request: Request) -> None:
        """Rename a repo or give it to another namespace of the user; requests for the old id find it."""
        fields = sent_fields(request)
        kind, (owner, _, name) = repo_kind(fields.text("type")), fields.text("toRepo").partition("/")
        repo = may_read(self._store, request, kind, fields.text("fromRepo"))
        owner = may_own(may_write(request, repo), owner, f"move a {kind}")
        new_id = f"{owner}/{repo_name(name)}"
        names = sorted({repo.id.lower(), new_id.lower()})  # in one order, so that two renames never wait for each other
        with contextlib.ExitStack() as locks:
            for each in names:
                locks.enter_context(self._store.lock_name(kind, each))
            locks.enter_context(self._store.lock(repo))
            there = self._store.named(kind, new_id)
            if there and there.place != repo.place:
                raise Refusal(409, f"A {kind} repository called {there.id} already exists")
            present = self._store.named(kind, repo.id)
            if present is None or present.place != repo.place:  # renamed while this request waited
                raise Refusal(404, "Repository not found", "RepoNotFound")
            self._store.rename(repo, new_id)
            self._collections.follow_renames()

    def delete(self, request: Request) -> None:
        fields = sent_fields(request)
        owner = fields.text("organization") or request.reader
        repo = may_read(self._store, request, repo_kind(fields.text("type")), f"{owner}/{fields.text('name')}")
        may_write(request, repo)
        if repo.id.lower() != f"{owner}/{fields.text('name')}".lower():
            raise Refusal(404, f"Repository not found: it is {repo.id} now", "RepoNotFound")
        with self._store.lock(repo):
            self._store.drop_repo(repo)

    def settings(self, request: Request, repo: Repo) -> Answer:
        may_write(request, repo)
        fields = sent_fields(request)
        if fields.values.get("gated"):
            raise Refusal(501, UNGATED)
        if "private" in fields or "visibility" in fields:
            self._store.set_private(repo, _is_private(fields))
        return as_json(fields.values)

    def info(self, request: Request, repo: Repo, revision: str = "main") -> Answer:
        with self._store.git(repo) as git:
            sha = gitio.resolve(git, revision)
            facts = self._describer.at(git, repo, sha.decode())
            blobs, files = request.flag("blobs"), sorted(gitio.files_of(git, sha).items())
            answer = self._describer.entry(repo, facts) | {"cardData": facts.card}
            answer["siblings"] = [_sibling(git, path, blob, blobs) for path, (_, blob) in files]
        if "usedStorage" in request.parameters("expand"):
            answer["usedStorage"] = self._store.used(repo)
        return as_json(answer, X_Repo_Commit=answer["sha"])

    def refs(self, request: Request, repo: Repo) -> Answer:
        with self._store.git(repo) as git:
            refs = [(ref.decode(), gitio.peeled(git, sha).decode()) for ref, sha in sorted(git.refs.as_dict().items())]
        groups = {}
        for group, prefix in REF_GROUPS.items():
            named = [(name.removeprefix(prefix), name, sha) for name, sha in refs if name.startswith(prefix)]
            groups[group] = [{"name": short, "ref": name, "targetCommit": sha} for short, name, sha in named]
        if not request.flag("include_prs"):
            del groups["pullRequests"]
        return as_json(groups)


def _sibling(git: GitRepo, path: bytes, blob: bytes, with_blobs: bool) -> JSON:
    if not with_blobs:
        return {"rfilename": path.decode()}
    entry = gitio.tree_entry(git, path, blob)
    sibling: JSON = {"rfilename": path.decode(), "size": entry["size"], "blobId": entry["oid"]}
    if large := entry.get("lfs"):
        sibling["lfs"] = {"sha256": large["oid"], "size": large["size"], "pointerSize": large["pointerSize"]}
    return sibling


def _is_private(fields: Fields) -> bool:
    visibility = fields.text("visibility")
    if visibility not in ("", "private", "public"):
        raise Refusal(400, "`visibility` must be private or public")
    if "private" in fields and visibility and fields.flag("private") != (visibility == "private"):
        raise Refusal(400, "`private` and `visibility` contradict each other")
    return fields.flag("private") or visibility == "private"
