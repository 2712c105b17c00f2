"""Read the Hub in this process, as the pages of `hubdpo.view` do: with the rights of one user, through the API."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, Any, NamedTuple
from urllib.parse import quote, urlencode

from hubdpo.loopback import gitio
from hubdpo.loopback.api import access
from hubdpo.loopback.http.wire import Answer, Request, User
from hubdpo.loopback.limits import check_room
from hubdpo.loopback.names import KINDS
from hubdpo.loopback.storage.store import Repo, Store
from hubdpo.loopback.xet.store import XetFile, XetStore

MOST_KEPT = 200_000
"""Blobs whose sizes are kept in memory."""


class Read(NamedTuple):
    """An answer of the API: its JSON, and its headers."""

    value: Any
    headers: dict[str, str]


class Stored(NamedTuple):
    """A file at a commit: its git blob, its size, and the SHA-256 of a large file."""

    blob: str
    size: int
    sha256: str | None


class Reading:
    """What a page may read. Every method raises the Refusal that the API answers with."""

    def __init__(
        self, store: Store, xet: XetStore, route: Callable[[Request], Answer], find: Callable[[Request, str, str], Repo]
    ) -> None:
        self._store, self._xet, self._route, self._find = store, xet, route, find
        self._stored: dict[bytes, Stored] = {}  # by blob: the next commit has most files unchanged

    def user_of(self, request: Request) -> User | None:
        return access.authenticate(self._store, request)

    def get(self, user: User | None, *parts: str, **query: object) -> Read:
        """Return what the API answers to GET `/api/PARTS`, with the parts quoted."""
        path = "/".join(["/api", *(quote(part, safe="") for part in parts)])
        given = {name: value for name, value in query.items() if value not in (None, "")}
        answer = self._route(_asked_by(user, path, urlencode(given)))
        return Read(json.loads(answer.content), answer.headers)

    def repo(self, request: Request, kinds: str, repo_id: str) -> Repo:
        """Return the repo that a request names. Raise Redirection for an old id, or one in another case."""
        return self._find(request, kinds, repo_id)

    def find(self, user: User | None, kinds: str, repo_id: str) -> Repo:
        """Return a repo that a user may read, also by an old id."""
        return access.may_read(self._store, _asked_by(user, "/"), KINDS[kinds], repo_id)

    def may_read(self, user: User | None, kind: str, repo_id: str) -> bool:
        return access.readable(self._store, user, kind, repo_id) is not None

    def while_it_exists(self, repo: Repo) -> AbstractContextManager[None]:
        """Turn any failure of the block into Refusal 404 if the repo was deleted meanwhile."""
        return self._store.reading(repo)

    def commit(self, repo: Repo, revision: str) -> str:
        with self._store.git(repo) as git:
            return gitio.resolve(git, revision).decode()

    def parents(self, repo: Repo, commit: str) -> list[str]:
        with self._store.git(repo) as git:
            return [parent.decode() for parent in git.object_store[commit.encode()].parents]

    def files(self, repo: Repo, commit: str) -> dict[str, Stored]:
        found: dict[str, Stored] = {}
        with self._store.git(repo) as git:
            for path, (_, blob) in gitio.files_of(git, commit.encode()).items():
                if (stored := self._stored.get(blob)) is None:
                    entry = gitio.tree_entry(git, path, blob)
                    stored = Stored(entry["oid"], entry["size"], entry.get("lfs", {}).get("oid"))
                    if len(self._stored) < MOST_KEPT:
                        self._stored[blob] = stored
                found[path.decode()] = stored
        return found

    def open(self, repo: Repo, file: Stored) -> IO[bytes]:
        """Open a file for reading at any offset; of a Xet file, only the chunks that are read are unpacked."""
        if file.sha256 is None:
            with self._store.git(repo) as git:
                return io.BytesIO(git.object_store[file.blob.encode()].data)
        self._check_linked(repo, file)
        path = self._store.large_file(file.sha256)
        if path.exists():
            return path.open("rb")
        return io.BufferedReader(XetFile(self._xet, file.sha256, file.size), 2**20)

    def scratch(self) -> Path:
        """Return a new folder for `put`, which the next start removes after a kill."""
        return Path(tempfile.mkdtemp(prefix="pages-", dir=self._store.incoming))

    def put(self, repo: Repo, file: Stored, path: Path) -> None:
        """Give a file a path below `scratch`: a second name, without a copy, where the Hub has it as one file."""
        if file.sha256 is not None:
            self._check_linked(repo, file)
            with contextlib.suppress(OSError):  # a Xet file, or a disk without hard links
                path.hardlink_to(self._store.large_file(file.sha256))
                return
        check_room(self._store.incoming, file.size)
        try:
            with self.open(repo, file) as stream, path.open("wb") as copy:
                shutil.copyfileobj(stream, copy, 2**20)
        except BaseException:  # a part of a file would pass for the whole
            path.unlink(missing_ok=True)
            raise

    def _check_linked(self, repo: Repo, file: Stored) -> None:
        """Raise FileNotFoundError for a pointer that a git client could write without having the file."""
        if self._store.large_size(repo, str(file.sha256)) is None:
            raise FileNotFoundError(f"this repo has no large file {file.sha256}")


Pages = Callable[[Request, Reading], Answer | None]
"""Answer a request for a page, None for an address of the API."""


def _asked_by(user: User | None, path: str, query: str = "") -> Request:
    return Request("GET", path, query, {}, _NoBody(), user=user)


class _NoBody:
    def read(self, size: int) -> bytes:
        return b""

    def allow(self, limit: int) -> None: ...

    def trust(self) -> None: ...
