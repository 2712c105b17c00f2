"""The data of the loopback Hub: bare git repos, large files by SHA-256, and SQLite tables of repos and tokens."""

from __future__ import annotations

import hashlib
import itertools
import shutil
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from dulwich.repo import Repo as GitRepo

from hubdpo.errors import ConfigError
from hubdpo.loopback.http.wire import CHUNK, Body, Refusal
from hubdpo.loopback.names import identifier
from hubdpo.loopback.storage.accounts import Accounts
from hubdpo.loopback.storage.folder import (
    Taken,
    bytes_below,
    close_to_others,
    hold,
    made_or_left,
    signing_secret,
    sweep,
    written_whole,
)
from hubdpo.loopback.storage.tables import Tables

SELECT = "SELECT kind, id, private, created, place FROM repo"


@dataclass(frozen=True)
class Repo:
    """A repo on the Hub; `kind` is `model`, `dataset` or `space`, and `id` is `OWNER/NAME`.

    `place` is its git folder below `repos/`, which stays when the repo is renamed: all that belongs to a repo is filed
    under its place.
    """

    kind: str
    id: str
    private: bool = False
    created: float = field(default_factory=time.time)
    place: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "place", self.place or f"{self.kind}/{self.id}.git")

    @property
    def owner(self) -> str:
        return self.id.partition("/")[0]

    @property
    def key(self) -> str:
        """The `_id` in the API, which a rename leaves as it is."""
        return identifier(self.place, str(self.created))

    @property
    def page(self) -> str:
        """Path of the repo's page below the endpoint."""
        return f"{'' if self.kind == 'model' else self.kind + 's/'}{self.id}"


class Large(NamedTuple):
    """A large file that a repo may refer to; `pushed` is when it was uploaded, in seconds since the epoch."""

    oid: str
    size: int
    pushed: float


class Store:
    """Open a Hub folder for one server. Raise ConfigError if another server has it, MachineError if the disk fails."""

    def __init__(self, root: Path) -> None:
        # every change that a client was told about is on disk: objects before the refs that name them, files by rename
        self.root = root
        self.large, self.incoming = root / "lfs", root / "incoming"
        with made_or_left(root), ExitStack() as undo:
            self._owner = undo.enter_context(hold(root))
            close_to_others(root)
            sweep(root)
            self.secret, new = signing_secret(root)
            self.tables = Tables(root)
            undo.pop_all()
        self.query = self.tables.query
        self._guard = self.tables.guard
        self._locks: defaultdict[tuple[str, ...], threading.RLock] = defaultdict(threading.RLock)
        self.accounts = Accounts(self.tables, self.secret)
        self.accounts.rekey(new)

    def close(self) -> None:
        self.tables.close()
        self._owner.close()

    # repos

    def new_repo(self, kind: str, repo_id: str, private: bool) -> Repo:
        """Return a repo to create, whose place no other repo has. The caller holds the lock of the name."""
        repo = Repo(kind, repo_id, private)
        places = (f"{kind}/{repo_id}{f'~{number}' if number else ''}.git" for number in itertools.count())
        taken = "SELECT 1 FROM repo WHERE place = ? COLLATE NOCASE"  # some disks do not tell cases apart
        return replace(repo, place=next(place for place in places if not self.query(taken, place)))

    def add_repo(self, repo: Repo) -> None:
        with self.tables.transaction():
            self.query("DELETE FROM moved WHERE kind = ? AND id = ?", repo.kind, repo.id)
            row = (repo.kind, repo.id, int(repo.private), repo.created, repo.place)
            self.query("INSERT INTO repo VALUES (?, ?, ?, ?, ?)", *row)

    def exists(self, repo: Repo) -> bool:
        return bool(self.query("SELECT 1 FROM repo WHERE place = ? AND created = ?", repo.place, repo.created))

    def check(self, repo: Repo) -> None:
        """Raise Refusal 404 if the repo was deleted while the request waited for its lock."""
        if not self.exists(repo):
            raise Refusal(404, "Repository not found", "RepoNotFound")

    @contextmanager
    def reading(self, repo: Repo) -> Iterator[None]:
        """Turn any failure of the block into Refusal 404 if the repo was deleted meanwhile."""
        try:
            yield
        except Exception:
            self.check(repo)
            raise

    @contextmanager
    def listing(self, repo: Repo) -> Iterator[None]:
        """End the block at any failure, without an error, if the repo was deleted meanwhile."""
        try:
            yield
        except Exception:  # a folder that is being removed fails in many ways
            if self.exists(repo):
                raise

    def drop_repo(self, repo: Repo) -> None:
        """Delete a repo, whose lock the caller holds."""
        self.check(repo)
        with self.tables.transaction():
            for table in ("repo", "moved", "large"):
                self.query(f"DELETE FROM {table} WHERE place = ?", repo.place)
        shutil.rmtree(self.git_folder(repo), ignore_errors=True)

    def rename(self, repo: Repo, new_id: str) -> None:
        """Give a repo another id; requests for the old one find it until another repo takes the name."""
        with self.tables.transaction():
            self.query("DELETE FROM moved WHERE kind = ? AND id = ?", repo.kind, new_id)
            self.query("UPDATE repo SET id = ? WHERE place = ?", new_id, repo.place)
            if new_id.lower() != repo.id.lower():
                self.query("INSERT OR REPLACE INTO moved VALUES (?, ?, ?)", repo.kind, repo.id, repo.place)

    def named(self, kind: str, repo_id: str) -> Repo | None:
        """Return the repo that has this id; its case does not count."""
        # folders of older versions may have two ids that differ only in case
        exact_first = f"{SELECT} WHERE kind = ? AND id = ? ORDER BY id = ? COLLATE BINARY DESC"
        rows = self.query(exact_first, kind, repo_id, repo_id)
        return _repo(rows[0]) if rows else None

    def repo(self, kind: str, repo_id: str) -> Repo | None:
        """Return the repo that has this id or, if no repo has, the one that had it before it was renamed."""
        renamed = f"{SELECT} WHERE place = (SELECT place FROM moved WHERE kind = ? AND id = ?)"
        with self._guard:  # no rename comes between the two looks
            if repo := self.named(kind, repo_id):
                return repo
            rows = self.query(renamed, kind, repo_id)
        return _repo(rows[0]) if rows else None

    def repos(self, kind: str) -> list[Repo]:
        return [_repo(row) for row in self.query(f"{SELECT} WHERE kind = ? ORDER BY id", kind)]

    def all_repos(self) -> list[Repo]:
        return [_repo(row) for row in self.query(f"{SELECT} ORDER BY kind, id")]

    def set_private(self, repo: Repo, private: bool) -> None:
        self.query("UPDATE repo SET private = ? WHERE place = ?", int(private), repo.place)

    def git_folder(self, repo: Repo) -> Path:
        return self.root / "repos" / repo.place

    def git(self, repo: Repo) -> GitRepo:
        return GitRepo(str(self.git_folder(repo)))

    def head(self, repo: Repo) -> str:
        """Return the commit of the main branch."""
        try:
            sha = (self.git_folder(repo) / "refs" / "heads" / "main").read_text().strip()
        except FileNotFoundError:  # git packed it
            sha = ""
        if len(sha) == 40:
            return sha
        with self.git(repo) as git:
            return bytes(git.refs[b"refs/heads/main"]).decode()

    def used(self, repo: Repo) -> int:
        """Return the bytes of a repo on the disk: of its git folder, and of its large files, which others may share."""
        large = self.query("SELECT SUM(size) FROM large WHERE place = ?", repo.place)[0][0] or 0
        return int(large) + bytes_below(self.git_folder(repo))

    @contextmanager
    def changing(self, repo: Repo) -> Iterator[GitRepo]:
        """Yield the git repo, locked. After an error, remove git's lock files, which would block every later write."""
        with self.lock(repo):
            self.check(repo)
            with self.git(repo) as git:
                try:
                    yield git
                except BaseException:
                    for left in self.git_folder(repo).rglob("*.lock"):
                        left.unlink(missing_ok=True)
                    raise

    @contextmanager
    def init_git(self, repo: Repo) -> Iterator[GitRepo]:
        """Yield a new git repo and remove it after an error; the caller holds the repo's lock."""
        folder = self.git_folder(repo)
        # a server killed between creating the folder and adding the repo leaves one
        shutil.rmtree(folder, ignore_errors=True)
        try:
            folder.mkdir(parents=True)
            with GitRepo.init_bare(str(folder), default_branch=b"main") as git:
                yield git
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def lock(self, repo: Repo) -> threading.RLock:
        with self._guard:
            return self._locks[repo.place,]

    def lock_name(self, kind: str, repo_id: str) -> threading.RLock:
        """Return the lock of a name that a repo is about to take or give up."""
        with self._guard:
            return self._locks[kind, repo_id.lower()]

    # large files

    def large_file(self, oid: str) -> Path:
        return self.large / oid[:2] / oid[2:4] / oid

    def large_size(self, repo: Repo, oid: str) -> int | None:
        """Return the size of a large file uploaded to this repo, by LFS or Xet; None if it was not."""
        rows = self.query("SELECT size FROM large WHERE place = ? AND oid = ?", repo.place, oid)
        if not rows or not (self.large_file(oid).exists() or self.query("SELECT 1 FROM xet WHERE oid = ?", oid)):
            return None
        return int(rows[0][0])

    def link_large(self, repo: Repo, oid: str, size: int) -> None:
        """Let a repo refer to a large file that is stored and verified."""
        self.query("INSERT OR REPLACE INTO large VALUES (?, ?, ?, ?)", repo.place, oid, size, time.time())

    def large_of(self, repo: Repo) -> list[Large]:
        rows = self.query("SELECT oid, size, pushed FROM large WHERE place = ?", repo.place)
        return [Large(oid, size, pushed or repo.created) for oid, size, pushed in rows]

    def unlink_large(self, repo: Repo, oids: Iterable[str]) -> None:
        with self.tables.transaction():
            for oid in oids:
                self.query("DELETE FROM large WHERE place = ? AND oid = ?", repo.place, oid)

    def receive(self, repo: Repo, oid: str, size: int, body: Body) -> None:
        """Store a large file. Raise Refusal 400, storing nothing, when size or SHA-256 differ from the announced."""
        digest, count = hashlib.sha256(), 0
        with written_whole(self.large_file(oid), beside=self.incoming) as stream:
            while count <= size and (chunk := body.read(CHUNK)):
                count += len(chunk)
                digest.update(chunk)
                stream.write(chunk)
            if count != size or digest.hexdigest() != oid:
                raise Refusal(400, "the content does not match the object id")
        self.link_large(repo, oid, size)


def _repo(row: tuple[Any, ...]) -> Repo:
    kind, repo_id, private, created, place = row
    return Repo(kind, repo_id, bool(private), created, place)


def present(root: Path) -> Path:
    """Return a Hub folder. Raise ConfigError if it is none."""
    if not (root / "hub.sqlite").exists():
        raise ConfigError(f"there is no Hub in {root}", hint=f"hubdpo serve-hub {root}     (makes one)")
    return root


@contextmanager
def accounts_in(root: Path) -> Iterator[Accounts]:
    """Yield the accounts of a Hub folder, which a server may be using: it notices a change at its next request."""
    with ExitStack() as stack:
        try:
            store = Store(present(root))
        except Taken:
            tables = Tables(root, take_over=False)
            stack.callback(tables.close)
            yield Accounts(tables, signing_secret(root)[0])
        else:
            stack.callback(store.close)
            yield store.accounts
