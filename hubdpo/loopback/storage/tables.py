"""The SQLite tables of a Hub folder, and how the tables of older versions become those of this one."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hubdpo.errors import ConfigError

VERSION = 1
"""Kept in `user_version`; 0 is a folder without tables, or one in which a repo was known by its name alone."""
PRAGMAS = ("journal_mode = WAL", "synchronous = FULL", "secure_delete = ON")
# a repo's `place`, its git folder below `repos/`, stays when it is renamed: all that belongs to it is filed there
TABLES = """
CREATE TABLE repo (kind TEXT, id TEXT COLLATE NOCASE, private INT, created REAL, place TEXT PRIMARY KEY);
CREATE INDEX repo_by_id ON repo (kind, id);
CREATE INDEX repo_by_place ON repo (place COLLATE NOCASE);
CREATE TABLE moved (kind TEXT, id TEXT COLLATE NOCASE, place TEXT, PRIMARY KEY (kind, id));
CREATE TABLE large (place TEXT, oid TEXT, size INT, pushed REAL, PRIMARY KEY (place, oid));
CREATE TABLE token (hash TEXT PRIMARY KEY, user TEXT, may_write INT, added REAL, used REAL, revoked REAL);
CREATE TABLE member (org TEXT, user TEXT, PRIMARY KEY (org, user));
CREATE INDEX member_by_user ON member (user);
CREATE TABLE xorb (hash TEXT PRIMARY KEY, chunks BLOB);
CREATE TABLE chunk (hash TEXT PRIMARY KEY, xorb TEXT);
CREATE TABLE xet (hash TEXT PRIMARY KEY, oid TEXT, size INT, terms TEXT);
CREATE INDEX xet_by_oid ON xet (oid);
CREATE TABLE collected (at REAL);
"""
PLACE = "kind || '/' || id || '.git'"
COPIED = {
    "repo": f"INSERT INTO repo SELECT kind, id, private, created, {PLACE} FROM repo_0",
    "large": f"""INSERT INTO large SELECT {PLACE}, oid, size, (
        SELECT created FROM repo_0 WHERE repo_0.kind = large_0.kind AND repo_0.id = large_0.id) FROM large_0""",
    "token": "INSERT INTO token (hash, user, may_write) SELECT hash, user, may_write FROM token_0",
    "xorb": "INSERT INTO xorb SELECT hash, chunks FROM xorb_0",
    "chunk": "INSERT INTO chunk SELECT hash, xorb FROM chunk_0",
    "xet": "INSERT INTO xet SELECT hash, oid, size, terms FROM xet_0",
}
"""How each table of version 0 is copied, after `_0` was added to its name."""


class Tables:
    """The tables of the Hub folder `root`, for any number of threads. Raise ConfigError if a later version wrote it."""

    def __init__(self, root: Path, *, take_over: bool = True) -> None:
        self.guard = threading.RLock()
        self._database = sqlite3.connect(root / "hub.sqlite", check_same_thread=False, isolation_level=None)
        try:
            for pragma in PRAGMAS:
                self.query(f"PRAGMA {pragma}")
            with self.transaction():
                self._bring_up_to_date(root, take_over)
        except BaseException:
            self._database.close()
            raise

    def close(self) -> None:
        with self.guard:
            self._database.close()

    def query(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        with self.guard:
            return self._database.execute(statement, values).fetchall()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Apply all statements of the block or, after an error or the end of the process, none."""
        with self.guard:
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._database.execute("COMMIT")
            except BaseException:
                if self._database.in_transaction:  # SQLite itself rolls back when the disk is full
                    self._database.execute("ROLLBACK")
                raise

    def _bring_up_to_date(self, root: Path, take_over: bool) -> None:
        version = self.query("PRAGMA user_version")[0][0]
        if version > VERSION:
            raise ConfigError(
                f"a later version of hubdpo wrote the Hub folder {root}", hint="pip install --upgrade hubdpo"
            )
        if version == VERSION:
            return
        if not take_over:
            raise ConfigError(f"a server of an older version uses this folder: {root}", hint="stop it first")
        names = {name for (name,) in self.query("SELECT name FROM sqlite_master WHERE type = 'table'")}
        old = [name for name in COPIED if name in names]
        renamed = [f"ALTER TABLE {name} RENAME TO {name}_0" for name in old]
        for statement in (*renamed, "DROP INDEX IF EXISTS xet_by_oid", *TABLES.split(";\n")):
            self.query(statement)
        for name in old:
            self.query(COPIED[name])
        for name in old:
            self.query(f"DROP TABLE {name}_0")
        self.query(f"PRAGMA user_version = {VERSION}")
