"""Who may use a Hub folder: tokens of users, stored as keyed hashes, and organisations with their members."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass

from hubdpo import console
from hubdpo.errors import ConfigError
from hubdpo.loopback.http.wire import User
from hubdpo.loopback.storage.tables import Tables
from hubdpo.loopback.storage.tokens import KEYED, Org, Signer, Token, bare_hash, keyed_hash

NOTED_S = 3600
"""Seconds after which the use of a token is noted again; each note is synced to the disk."""
SHOWN = 8
"""Digits of a token's hash that name it in lists."""


@dataclass(frozen=True)
class Listed:
    """A token as `--list-tokens` shows it; the times are seconds since the epoch, None if unknown or never."""

    hash: str
    user: str
    may_write: bool
    added: float | None
    used: float | None
    revoked: float | None

    @property
    def id(self) -> str:
        return self.hash.removeprefix(KEYED)[:SHOWN]


class Accounts:
    def __init__(self, tables: Tables, secret: bytes) -> None:
        self._tables, self._key = tables, Signer(secret).key("tokens")

    def user_of(self, token: str) -> User | None:
        """Return the user of a token, None for one that is unknown or revoked."""
        hashed, now = keyed_hash(self._key, bare_hash(token)), time.time()
        rows = self._tables.query("SELECT user, may_write, used FROM token WHERE hash = ? AND revoked IS NULL", hashed)
        if not rows:
            return None
        name, may_write, used = rows[0]
        if used is None or now - used > NOTED_S:
            with contextlib.suppress(sqlite3.Error):  # a full disk keeps nobody from reading
                self._tables.query("UPDATE token SET used = ? WHERE hash = ?", now, hashed)
        return User(name, bool(may_write), self.orgs_of(name))

    def orgs_of(self, user: str) -> frozenset[str]:
        return frozenset(org for (org,) in self._tables.query("SELECT org FROM member WHERE user = ?", user))

    def is_known(self, user: str) -> bool:
        """Return whether the user has a token that is not revoked."""
        return bool(self._tables.query("SELECT 1 FROM token WHERE user = ? AND revoked IS NULL", user))

    def users(self) -> list[str]:
        rows = self._tables.query("SELECT DISTINCT user FROM token WHERE revoked IS NULL ORDER BY user")
        return [user for (user,) in rows]

    def orgs(self) -> dict[str, list[str]]:
        """Return the members of each organisation."""
        found: dict[str, list[str]] = {}
        for org, user in self._tables.query("SELECT org, user FROM member ORDER BY org, user"):
            found.setdefault(org, []).append(user)
        return found

    def tokens(self) -> list[Listed]:
        rows = self._tables.query(
            "SELECT hash, user, may_write, added, used, revoked FROM token ORDER BY user, added, hash"
        )
        return [Listed(row[0], row[1], bool(row[2]), *row[3:]) for row in rows]

    def add(self, tokens: Sequence[Token], orgs: Sequence[Org] = ()) -> None:
        """Add tokens, and give organisations these members. Raise ConfigError, changing nothing, for a taken name."""
        with self._tables.transaction():
            self._check_names([token.user for token in tokens], orgs)
            for token in tokens:
                hashed = keyed_hash(self._key, bare_hash(token.value))
                for user, when in self._tables.query("SELECT user, revoked FROM token WHERE hash = ?", hashed):
                    if user != token.user:
                        raise ConfigError(
                            f"a token of {token.user} already belongs to {user}", hint="give another VALUE"
                        )
                    if when is not None:
                        console.warn(f"a token of {user} was revoked and is not accepted: give another VALUE")
                self._tables.query(  # a revoked token stays revoked
                    "INSERT INTO token (hash, user, may_write, added) VALUES (?, ?, ?, ?)"
                    " ON CONFLICT (hash) DO UPDATE SET may_write = excluded.may_write",
                    hashed, token.user, int(token.may_write), time.time(),
                )  # fmt: skip
            for org in orgs:
                self._tables.query("DELETE FROM member WHERE org = ?", org.name)
                for user in org.members:
                    self._tables.query("INSERT INTO member VALUES (?, ?)", org.name, user)
        for org in orgs:
            if strangers := [user for user in org.members if not self.is_known(user)]:
                console.warn(f"members of the organisation {org.name} without a token: {', '.join(strangers)}")

    def revoke(self, named: str) -> list[Listed]:
        """Revoke a token, by its id, or all tokens of a user, and return them. They are never accepted again."""
        found = [token for token in self.tokens() if token.revoked is None and named in (token.user, token.id)]
        for token in found:
            self._tables.query("UPDATE token SET revoked = ? WHERE hash = ?", time.time(), token.hash)
        return found

    def rekey(self, new_secret: bool) -> None:
        """Key the bare hashes of an older version; with a new secret, delete the hashes keyed with the old one."""
        kept = [row[0] for row in self._tables.query("SELECT hash FROM token")]
        if new_secret and (dead := [hashed for hashed in kept if hashed.startswith(KEYED)]):
            console.warn(f"the signing secret is new, so {len(dead)} tokens were deleted: give them again")
            self._tables.query("DELETE FROM token WHERE hash LIKE ?", f"{KEYED}%")
        for bare in (hashed for hashed in kept if not hashed.startswith(KEYED)):
            self._tables.query("UPDATE token SET hash = ? WHERE hash = ?", keyed_hash(self._key, bare), bare)

    def _check_names(self, users: Sequence[str], orgs: Sequence[Org]) -> None:
        """Raise ConfigError for a name that is both a user and an organisation, or differs from another by its case."""
        people, added = [*self.users(), *users], [org.name for org in orgs]
        dissolved = [org.name for org in orgs if not org.members]
        teams = [name for name in [*self.orgs(), *added] if name not in dissolved]
        for name in teams:
            if name in people:
                raise ConfigError(
                    f"{name} is a user, so it cannot be an organisation as well",
                    hint=f"take another name, `--org {name}-team:...`, or revoke its tokens: --revoke {name}",
                )
        for name in {*users, *added} - {*self.users(), *self.orgs()}:
            if twins := [other for other in (*people, *teams) if other != name and other.lower() == name.lower()]:
                raise ConfigError(f"{name} and {twins[0]} differ only in case", hint=f"use {twins[0]}")
