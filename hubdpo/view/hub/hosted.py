"""A repo of a Hub in this process, as the thing that pages show to one visitor."""

from __future__ import annotations

import shutil
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import IO, Any, cast

from hubdpo.artefacts.formats.bounded import check_size
from hubdpo.artefacts.formats.safetensors_header import read_tensors
from hubdpo.errors import ArtefactError
from hubdpo.hub.reference import RepoType
from hubdpo.hub.snapshot import Shapes, Snapshot
from hubdpo.loopback.http.wire import Refusal, User
from hubdpo.loopback.reading import Read, Reading, Stored
from hubdpo.loopback.storage.store import Repo
from hubdpo.view.kept import Kept
from hubdpo.view.page import Asked, PageError
from hubdpo.view.thing import FEW, Thing, kept_texts

MOST_KEPT = 8
"""Snapshots kept with what their pages computed, the last ones used."""


class StoredSnapshot(Snapshot):
    """The files of a repo at a commit, read from the folder of the Hub without a request."""

    def __init__(self, hub: Reading, repo: Repo, commit: str) -> None:
        self._hub, self._repo = hub, repo
        self.name, self.commit = repo.id, str(commit)
        self.repo_type = cast("RepoType", repo.kind) if repo.kind in ("model", "dataset") else None
        self.ref = f"{repo.id}@{commit[:12]}"
        self._folder: Path | None = None
        self._copying = threading.Lock()

    @cached_property
    def stored(self) -> dict[str, Stored]:
        return self._hub.files(self._repo, str(self.commit))

    @cached_property
    def files(self) -> dict[str, int]:
        return {name: file.size for name, file in self.stored.items()}

    def read(self, name: str) -> bytes:
        check_size(name, self.files.get(name, 0), of=self.ref)
        with self.open(name) as stream:
            return stream.read()

    def open(self, name: str) -> IO[bytes]:
        with self._never_uploaded(name):
            return self._hub.open(self._repo, self.stored[name])

    def fetch(self, names: list[str] | None = None, *, needed: list[str] | None = None) -> Path:
        """Return a folder with the files of these names or patterns, which goes with the snapshot.

        Raise Refusal 507 if the disk has no room for those that must be copied.
        """
        with self._copying:
            if self._folder is None:
                self._folder = self._hub.scratch()
                weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
            for name, file in self.stored.items():
                path = self._folder / name
                wanted = names is None or name in names or any(fnmatchcase(name, pattern) for pattern in names)
                if wanted and not path.exists():
                    path.parent.mkdir(parents=True, exist_ok=True)
                    with self._never_uploaded(name):
                        self._hub.put(self._repo, file, path)
            return self._folder

    @contextmanager
    def _never_uploaded(self, name: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise ArtefactError(
                f"`{name}` of {self.ref} was never uploaded: the repo has its pointer alone", hint="git lfs push --all"
            ) from None

    def drop_copies(self) -> None:
        """Remove the folder of `fetch`, before the snapshot is kept for long."""
        with self._copying:
            if self._folder is not None:
                shutil.rmtree(self._folder, ignore_errors=True)
                self._folder = None

    def shapes(self, name: str) -> Shapes:
        with self.open(name) as stream:
            try:
                return {key: one.shape for key, one in read_tensors(stream, self.files[name]).items()}
            except ValueError as problem:
                raise ArtefactError(f"`{name}` is not a safetensors file: {problem}", hint="tell its owner") from None

    def path(self, name: str) -> Path | None:
        return None

    def digest(self, name: str) -> str:
        file = self.stored[name]
        return file.sha256 or file.blob


def account_of(user: User | None) -> str:
    return user.name if user else ""


@dataclass(kw_only=True)
class Hosted(Thing):
    """A repo at a revision, for one visitor; `user` is None for a visitor without a token.

    `shelved` is the same commit for all visitors, who may read it alike.
    """

    shelf: Shelf
    hub: Reading
    repo: Repo
    user: User | None

    def frame(self, asked: Asked) -> dict[str, Any]:
        owner, _, name = self.repo.id.partition("/")
        return {
            "crumbs": [("Hub", "/"), (owner, f"/{owner}"), (name, asked.link(revision=self.revision))],
            "revision": self.revision, "is_private": self.repo.private, "account": account_of(self.user),
        }  # fmt: skip

    def get(self, *parts: str, **query: object) -> Read:
        """Return what the API answers below the repo. Raise PageError where it refuses."""
        owner, _, name = self.repo.id.partition("/")
        try:
            return self.hub.get(self.user, f"{self.repo.kind}s", owner, name, *parts, **query)
        except Refusal as refusal:
            raise PageError(refusal.status, refusal.message) from None

    def dataset(self, repo_id: str, revision: str) -> Thing | None:
        try:
            repo = self.hub.find(self.user, "datasets", repo_id)
            return self.shelf.take(self.hub, repo, self.hub.commit(repo, revision))
        except Refusal:
            return None

    def at(self, revision: str) -> StoredSnapshot:
        """Return the repo at another revision. Raise PageError 404."""
        try:
            return StoredSnapshot(self.hub, self.repo, self.hub.commit(self.repo, revision))
        except Refusal as refusal:
            raise PageError(refusal.status, refusal.message) from None


def refs(thing: Hosted) -> dict[str, list[str]]:
    """Return the names of branches and tags, for the choice of a revision."""
    found = thing.get("refs").value
    groups = {name: [str(ref["name"]) for ref in found.get(name, ())] for name in ("branches", "tags")}
    return {name: names for name, names in groups.items() if names}


class Shelf:
    """The commits that pages asked for last, each with what pages have made of it, whoever asked."""

    def __init__(self) -> None:
        self.few, self.texts, self._things = Kept(FEW), kept_texts(), Kept(MOST_KEPT)

    def take(self, hub: Reading, repo: Repo, commit: str) -> Thing:
        name = f"{repo.kind} {repo.id} {repo.created} {commit}"
        return self._things.take(name, lambda: Thing(StoredSnapshot(hub, repo, commit), repo.id))
