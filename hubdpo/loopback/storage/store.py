"""The data of the loopback Hub: bare git repos, large files by SHA-256, and SQLite tables of repos and tokens."""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dulwich.repo import Repo as GitRepo

from hubdpo import console
from hubdpo.errors import ConfigError
from hubdpo.loopback.http.wire import CHUNK, Body, Refusal, User
from hubdpo.loopback.storage.folder import close_to_others, hold, made_or_left, signing_secret, sweep, written_whole
from hubdpo.loopback.storage.tokens import KEYED, Signer, bare_hash, keyed_hash

TABLES = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
PRAGMA secure_delete = ON;
CREATE TABLE IF NOT EXISTS repo (kind TEXT, id TEXT, private INT, created REAL, PRIMARY KEY (kind, id));
CREATE TABLE IF NOT EXISTS large (kind TEXT, id TEXT, oid TEXT, size INT, PRIMARY KEY (kind, id, oid));
CREATE TABLE IF NOT EXISTS token (hash TEXT PRIMARY KEY, user TEXT, may_write INT);
CREATE TABLE IF NOT EXISTS xorb (hash TEXT PRIMARY KEY, chunks BLOB);
CREATE TABLE IF NOT EXISTS chunk (hash TEXT PRIMARY KEY, xorb TEXT);
CREATE TABLE IF NOT EXISTS xet (hash TEXT PRIMARY KEY, oid TEXT, size INT, terms TEXT);
CREATE INDEX IF NOT EXISTS xet_by_oid ON xet (oid);
"""


@dataclass(frozen=True)
class Repo:
    """A repo on the Hub; `kind` is `model`, `dataset` or `space`, and `id` is `OWNER/NAME`."""

    kind: str
    id: str
    private: bool = False
    created: float = field(default_factory=time.time)

    @property
    def owner(self) -> str:
        return self.id.partition("/")[0]

    @property
    def page(self) -> str:
        """Path of the repo's page below the endpoint."""
        return f"{'' if self.kind == 'model' else self.kind + 's/'}{self.id}"


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
            self._database = sqlite3.connect(root / "hub.sqlite", check_same_thread=False, isolation_level=None)
            self._database.executescript(TABLES)
            undo.pop_all()
        self._guard = threading.RLock()
        self._locks: defaultdict[tuple[str, str], threading.RLock] = defaultdict(threading.RLock)
        self._token_key = Signer(self.secret).key("tokens")
        self._rekey_tokens(new)

    def close(self) -> None:
        with self._guard:
            self._database.close()
        self._owner.close()

    def query(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        with self._guard:
            return self._database.execute(statement, values).fetchall()

    # tokens, stored as hashes keyed with the secret

    def add_tokens(self, tokens: Sequence[tuple[str, str, bool]]) -> None:
        """Add (name, value, may write) tokens. Raise ConfigError, adding none, if another user has one of them."""
        for name, value, _ in tokens:
            if (owner := self.user_of(value)) and owner.name != name:
                raise ConfigError(f"a token of {name} already belongs to {owner.name}", hint="give another VALUE")
        for name, value, may_write in tokens:
            hashed = keyed_hash(self._token_key, bare_hash(value))
            self.query("INSERT OR REPLACE INTO token VALUES (?, ?, ?)", hashed, name, int(may_write))

    def user_of(self, token: str) -> User | None:
        hashed = keyed_hash(self._token_key, bare_hash(token))
        rows = self.query("SELECT user, may_write FROM token WHERE hash = ?", hashed)
        return User(rows[0][0], bool(rows[0][1])) if rows else None

    def _rekey_tokens(self, new_secret: bool) -> None:
        """Key the bare hashes of an older version; with a new secret, delete the hashes keyed with the old one."""
        kept = [row[0] for row in self.query("SELECT hash FROM token")]
        if new_secret and (dead := [hashed for hashed in kept if hashed.startswith(KEYED)]):
            console.warn(f"the signing secret is new, so {len(dead)} tokens were deleted: give them again")
            self.query("DELETE FROM token WHERE hash LIKE ?", f"{KEYED}%")
        for bare in (hashed for hashed in kept if not hashed.startswith(KEYED)):
            self.query("UPDATE token SET hash = ? WHERE hash = ?", keyed_hash(self._token_key, bare), bare)

    # repos

    def add_repo(self, repo: Repo) -> None:
        self.query("INSERT INTO repo VALUES (?, ?, ?, ?)", repo.kind, repo.id, int(repo.private), repo.created)

    def drop_repo(self, repo: Repo) -> None:
        self.query("DELETE FROM repo WHERE kind = ? AND id = ?", repo.kind, repo.id)
        self.query("DELETE FROM large WHERE kind = ? AND id = ?", repo.kind, repo.id)
        shutil.rmtree(self.git_folder(repo), ignore_errors=True)

    def repo(self, kind: str, repo_id: str) -> Repo | None:
        rows = self.query("SELECT private, created FROM repo WHERE kind = ? AND id = ?", kind, repo_id)
        return Repo(kind, repo_id, bool(rows[0][0]), rows[0][1]) if rows else None

    def set_private(self, repo: Repo, private: bool) -> None:
        self.query("UPDATE repo SET private = ? WHERE kind = ? AND id = ?", int(private), repo.kind, repo.id)

    def repo_ids(self, kind: str) -> list[str]:
        return [row[0] for row in self.query("SELECT id FROM repo WHERE kind = ? ORDER BY id", kind)]

    def git_folder(self, repo: Repo) -> Path:
        return self.root / "repos" / repo.kind / f"{repo.id}.git"

    def git(self, repo: Repo) -> GitRepo:
        return GitRepo(str(self.git_folder(repo)))

    @contextmanager
    def changing(self, repo: Repo) -> Iterator[GitRepo]:
        """Yield the git repo, locked. After an error, remove git's lock files, which would block every later write."""
        with self.lock(repo), self.git(repo) as git:
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
            return self._locks[repo.kind, repo.id]

    # large files

    def large_file(self, oid: str) -> Path:
        return self.large / oid[:2] / oid[2:4] / oid

    def large_size(self, repo: Repo, oid: str) -> int | None:
        """Return the size of a large file uploaded to this repo, by LFS or Xet; None if it was not."""
        rows = self.query("SELECT size FROM large WHERE kind = ? AND id = ? AND oid = ?", repo.kind, repo.id, oid)
        if not rows or not (self.large_file(oid).exists() or self.query("SELECT 1 FROM xet WHERE oid = ?", oid)):
            return None
        return int(rows[0][0])

    def link_large(self, repo: Repo, oid: str, size: int) -> None:
        """Let a repo refer to a large file that is stored and verified."""
        self.query("INSERT OR REPLACE INTO large VALUES (?, ?, ?, ?)", repo.kind, repo.id, oid, size)

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
