"""What the loopback Hub keeps: bare git repositories, large files by SHA-256, and tables of repos, tokens and links.

Everything that a client was told is done is on disk: objects before the refs that name them, large files by rename.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import shutil
import sqlite3
import tempfile
import threading
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from dulwich.repo import Repo

from hubdpo.errors import ConfigError
from hubdpo.loopback.wire import Body, Refusal, User

CHUNK = 1 << 20


class Store:
    """Open a folder for one server. Raise ConfigError when another server has it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.large, self.incoming = root / "lfs", root / "incoming"
        for folder in (root, self.large, self.incoming, root / "repos"):
            folder.mkdir(parents=True, exist_ok=True)
        self._owner = (root / "owner.lock").open("w")
        try:
            fcntl.flock(self._owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._owner.close()
            raise ConfigError(
                f"another server has this folder: {root}", hint="stop it, or give another folder"
            ) from None
        self._sweep()
        self.secret = self._load_secret()
        self._guard = threading.RLock()
        self._locks: defaultdict[tuple[str, str], threading.RLock] = defaultdict(threading.RLock)
        self._database = sqlite3.connect(root / "hub.sqlite", check_same_thread=False, isolation_level=None)
        self._database.executescript(
            """
            PRAGMA journal_mode = WAL;
            PRAGMA synchronous = FULL;
            CREATE TABLE IF NOT EXISTS repo (kind TEXT, id TEXT, private INT, created REAL, PRIMARY KEY (kind, id));
            CREATE TABLE IF NOT EXISTS large (kind TEXT, id TEXT, oid TEXT, size INT, PRIMARY KEY (kind, id, oid));
            CREATE TABLE IF NOT EXISTS token (hash TEXT PRIMARY KEY, user TEXT, may_write INT);
            CREATE TABLE IF NOT EXISTS xorb (hash TEXT PRIMARY KEY, chunks BLOB);
            CREATE TABLE IF NOT EXISTS chunk (hash TEXT PRIMARY KEY, xorb TEXT);
            CREATE TABLE IF NOT EXISTS xet (hash TEXT PRIMARY KEY, oid TEXT, size INT, terms TEXT);
            CREATE INDEX IF NOT EXISTS xet_by_oid ON xet (oid);
            """
        )

    def close(self) -> None:
        with self._guard:
            self._database.close()
        self._owner.close()

    def _sweep(self) -> None:
        """Remove what a killed server left half-written; dulwich's lock files would block every later commit."""
        for left in [*self.incoming.iterdir(), *(self.root / "repos").rglob("*.lock")]:
            if left.is_file():
                left.unlink()

    def _load_secret(self) -> bytes:
        path = self.root / "secret"
        if not path.exists():
            handle = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o600)
            with os.fdopen(handle, "wb") as stream:
                stream.write(secrets.token_bytes(32))
        return path.read_bytes()

    def query(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        with self._guard:
            return self._database.execute(statement, values).fetchall()

    # tokens: only their hashes are kept

    def add_token(self, user: str, value: str, *, may_write: bool) -> None:
        self.query("INSERT OR REPLACE INTO token VALUES (?, ?, ?)", _hash(value), user, int(may_write))

    def user_of(self, token: str) -> User | None:
        rows = self.query("SELECT user, may_write FROM token WHERE hash = ?", _hash(token))
        return User(rows[0][0], bool(rows[0][1])) if rows else None

    # repos

    def add_repo(self, kind: str, repo_id: str, *, private: bool) -> None:
        self.query("INSERT INTO repo VALUES (?, ?, ?, ?)", kind, repo_id, int(private), time.time())

    def drop_repo(self, kind: str, repo_id: str) -> None:
        self.query("DELETE FROM repo WHERE kind = ? AND id = ?", kind, repo_id)
        self.query("DELETE FROM large WHERE kind = ? AND id = ?", kind, repo_id)
        shutil.rmtree(self.git_folder(kind, repo_id), ignore_errors=True)

    def repo(self, kind: str, repo_id: str) -> dict[str, Any] | None:
        rows = self.query("SELECT private, created FROM repo WHERE kind = ? AND id = ?", kind, repo_id)
        return {"private": bool(rows[0][0]), "created": rows[0][1]} if rows else None

    def set_private(self, kind: str, repo_id: str, private: bool) -> None:
        self.query("UPDATE repo SET private = ? WHERE kind = ? AND id = ?", int(private), kind, repo_id)

    def repo_ids(self, kind: str) -> list[str]:
        return [row[0] for row in self.query("SELECT id FROM repo WHERE kind = ? ORDER BY id", kind)]

    def git_folder(self, kind: str, repo_id: str) -> Path:
        return self.root / "repos" / kind / f"{repo_id}.git"

    def git(self, kind: str, repo_id: str) -> Repo:
        return Repo(str(self.git_folder(kind, repo_id)))

    def init_git(self, kind: str, repo_id: str) -> Repo:
        folder = self.git_folder(kind, repo_id)
        # left by a kill between making the folder and listing the repo
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return Repo.init_bare(str(folder), default_branch=b"main")

    def lock(self, kind: str, repo_id: str) -> threading.RLock:
        with self._guard:
            return self._locks[kind, repo_id]

    # large files

    def large_file(self, oid: str) -> Path:
        return self.large / oid[:2] / oid[2:4] / oid

    def large_size(self, kind: str, repo_id: str, oid: str) -> int | None:
        """Return the size of a large file that was uploaded to this repo, by LFS or by Xet, or None."""
        rows = self.query("SELECT size FROM large WHERE kind = ? AND id = ? AND oid = ?", kind, repo_id, oid)
        if not rows or not (self.large_file(oid).exists() or self.query("SELECT 1 FROM xet WHERE oid = ?", oid)):
            return None
        return int(rows[0][0])

    def link_large(self, kind: str, repo_id: str, oid: str, size: int) -> None:
        """Let a repo name a large file that is here, whole and checked."""
        self.query("INSERT OR REPLACE INTO large VALUES (?, ?, ?, ?)", kind, repo_id, oid, size)

    def receive(self, kind: str, repo_id: str, oid: str, size: int, body: Body) -> None:
        """Take in a large file. Raise Refusal, keeping nothing, when the bytes are not those of `oid`."""
        digest, count = hashlib.sha256(), 0
        handle, name = tempfile.mkstemp(dir=self.incoming)
        part = Path(name)
        try:
            with os.fdopen(handle, "wb") as stream:
                while chunk := body.read(CHUNK):
                    count += len(chunk)
                    if count > size:
                        break
                    digest.update(chunk)
                    stream.write(chunk)
                stream.flush()
                os.fsync(stream.fileno())
            if count != size or digest.hexdigest() != oid:
                raise Refusal(400, "the content is not that of the object id")
            target = self.large_file(oid)
            target.parent.mkdir(parents=True, exist_ok=True)
            part.replace(target)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        self.link_large(kind, repo_id, oid, size)


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
