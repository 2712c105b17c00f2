"""What the loopback Hub keeps: bare git repositories, large files by SHA-256, and tables of repos, tokens and links.

Everything that a client was told is done is on disk: objects before the refs that name them, large files by rename.
"""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dulwich.repo import Repo

from hubdpo import console
from hubdpo.errors import ConfigError
from hubdpo.loopback.documents import written_whole
from hubdpo.loopback.folder import close_to_others, hold, made_or_left, signing_secret, sweep
from hubdpo.loopback.signing import Signer
from hubdpo.loopback.tokens import KEYED, bare_hash, keyed_hash
from hubdpo.loopback.wire import Readable, Refusal, User

CHUNK = 1 << 20
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


class Store:
    """Open a folder for one server. Raise ConfigError when another has it, MachineError when the disk refuses."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.large, self.incoming = root / "lfs", root / "incoming"
        with made_or_left(root):
            self._owner = hold(root)
            try:
                close_to_others(root)
                sweep(root)
                self.secret, new = signing_secret(root)
                self._database = sqlite3.connect(root / "hub.sqlite", check_same_thread=False, isolation_level=None)
                self._database.executescript(TABLES)
            except BaseException:
                self._owner.close()
                raise
        self._guard = threading.RLock()
        self._locks: defaultdict[tuple[str, str], threading.RLock] = defaultdict(threading.RLock)
        self._token_key = Signer(self.secret).key("tokens")
        self._rekey_tokens(new)

    def close(self) -> None:
        with self._guard:
            self._database.close()
        self._owner.close()

    def query(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        with self._guard:
            return self._database.execute(statement, values).fetchall()

    # tokens: only their hashes are kept, under a key made from the secret

    def add_token(self, user: str, value: str, *, may_write: bool) -> None:
        hashed = keyed_hash(self._token_key, bare_hash(value))
        self.query("INSERT OR REPLACE INTO token VALUES (?, ?, ?)", hashed, user, int(may_write))

    def add_tokens(self, tokens: Sequence[tuple[str, str, bool]]) -> None:
        """Keep tokens: name, value, right. Raise ConfigError, keeping none, when one is another user's."""
        for name, value, _ in tokens:
            if (owner := self.user_of(value)) and owner.name != name:
                raise ConfigError(f"a token of {name} is one of {owner.name} already", hint="give another VALUE")
        for name, value, may_write in tokens:
            self.add_token(name, value, may_write=may_write)

    def user_of(self, token: str) -> User | None:
        hashed = keyed_hash(self._token_key, bare_hash(token))
        rows = self.query("SELECT user, may_write FROM token WHERE hash = ?", hashed)
        return User(rows[0][0], bool(rows[0][1])) if rows else None

    def _rekey_tokens(self, new_secret: bool) -> None:
        """Put hashes without a key, of an older version, under the key; drop those that no key opens any more."""
        kept = [row[0] for row in self.query("SELECT hash FROM token")]
        if new_secret and (dead := [hashed for hashed in kept if hashed.startswith(KEYED)]):
            console.warn(f"the signing secret is new, so that {len(dead)} tokens are forgotten: give them again")
            self.query("DELETE FROM token WHERE hash LIKE ?", f"{KEYED}%")
        if bare := [hashed for hashed in kept if not hashed.startswith(KEYED)]:
            for hashed in bare:
                self.query("UPDATE token SET hash = ? WHERE hash = ?", keyed_hash(self._token_key, hashed), hashed)

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

    @contextmanager
    def changing(self, kind: str, repo_id: str) -> Iterator[Repo]:
        """Yield a repo that nobody else changes meanwhile. After an error no lock file of git's is left.

        dulwich leaves one where the disk is full, and nothing could be written in its place from then on.
        """
        with self.lock(kind, repo_id), self.git(kind, repo_id) as repo:
            try:
                yield repo
            except BaseException:
                for left in self.git_folder(kind, repo_id).rglob("*.lock"):
                    left.unlink(missing_ok=True)
                raise

    @contextmanager
    def init_git(self, kind: str, repo_id: str) -> Iterator[Repo]:
        """Yield a new repo, which is gone again after an error; the caller holds its lock."""
        folder = self.git_folder(kind, repo_id)
        # left by a kill between making the folder and listing the repo
        shutil.rmtree(folder, ignore_errors=True)
        try:
            folder.mkdir(parents=True)
            with Repo.init_bare(str(folder), default_branch=b"main") as repo:
                yield repo
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise

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

    def receive(self, kind: str, repo_id: str, oid: str, size: int, body: Readable) -> None:
        """Take in a large file. Raise Refusal, keeping nothing, when the bytes are not those of `oid`."""
        digest, count = hashlib.sha256(), 0
        with written_whole(self.large_file(oid), beside=self.incoming) as stream:
            while count <= size and (chunk := body.read(CHUNK)):
                count += len(chunk)
                digest.update(chunk)
                stream.write(chunk)
            if count != size or digest.hexdigest() != oid:
                raise Refusal(400, "the content is not that of the object id")
        self.link_large(kind, repo_id, oid, size)
