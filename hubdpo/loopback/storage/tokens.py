"""Tokens of users, of which only keyed hashes are stored, and what they get: Xet tokens and signed URLs."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import stat
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlencode

from hubdpo.errors import ConfigError
from hubdpo.loopback.http.wire import Refusal, Request
from hubdpo.loopback.names import RESERVED, owner_name

FORM = "NAME:VALUE[:read|write]"
EXAMPLE = "me:hf_local_token:write"
ORG_FORM, ORG_EXAMPLE = "NAME:USER,USER", "--org team:me,you"
VARIABLE, ORGS_VARIABLE = "HUBDPO_HUB_TOKENS", "HUBDPO_HUB_ORGS"
LARGEST_FILE = 1 << 20
KEYED = "k:"
"""Prefix of a keyed hash in the token table; older versions stored hashes without a key."""
LIFETIME_S = 3600
"""Seconds for which Xet tokens and signed URLs are valid, for what they name alone."""


class Token(NamedTuple):
    user: str
    value: str
    may_write: bool


class Org(NamedTuple):
    """An organisation: a namespace whose repos its members own. Without members, it ends."""

    name: str
    members: tuple[str, ...]


def parse_token(text: str, where: str = "a token", *, option: str = "--token ") -> Token:
    """Parse `NAME:VALUE[:read|write]`. Raise ConfigError for another form, whose hint is an example after `option`."""
    # errors say where the token is, and do not quote it
    hint = option + EXAMPLE
    match = re.fullmatch(r"([\w.-]+):([^:\s]+)(?::(read|write))?", text, re.ASCII)
    if match is None or not text.isascii():
        raise ConfigError(f"{where} is not {FORM}, in ASCII", hint=hint)
    try:
        owner_name(match[1])
    except Refusal:
        raise ConfigError(
            f"{where} is not {FORM}: NAME is the owner in a repo id, at most 96 characters, and none of "
            f"{', '.join(sorted(RESERVED))}",
            hint=hint,
        ) from None
    return Token(match[1], match[2], match[3] != "read")


def parse_org(text: str, where: str = "an organisation") -> Org:
    """Parse `NAME:USER,USER`. Raise ConfigError for another form, or a name that no owner of a repo can have."""
    name, colon, users = text.partition(":")
    members = tuple(dict.fromkeys(filter(None, map(str.strip, users.split(",")))))
    try:
        for part in (name, *members):
            owner_name(part)
    except Refusal:
        colon = ""
    if not colon:
        raise ConfigError(f"{where} is not {ORG_FORM}, with names that can own repos", hint=ORG_EXAMPLE)
    return Org(name, members)


def parse_tokens(texts: Iterable[str]) -> list[Token]:
    """Parse tokens; of a repeated token the last counts. Raise ConfigError if two users have the same token."""
    names: dict[str, str] = {}
    parsed = [parse_token(text) for text in texts]
    for name, value, _ in parsed:
        if names.setdefault(value, name) != name:
            raise ConfigError(f"{names[value]} and {name} have the same token", hint="give each user another VALUE")
    return parsed


class Declared(NamedTuple):
    """Tokens and organisations, as text."""

    tokens: list[str]
    orgs: list[str]


def declared_in_file(path: Path) -> Declared:
    """Read a token or `org NAME:USER,USER` from each line of a file. Raise ConfigError if other users can read it."""
    try:
        with path.open("rb") as stream:
            mode = path.stat().st_mode
            if stat.S_ISREG(mode) and mode & 0o077:
                raise ConfigError(f"other users can read the token file {path}", hint=f"chmod 600 {path}")
            data = stream.read(LARGEST_FILE + 1)
    except OSError as problem:
        raise ConfigError(f"the token file {path} cannot be read: {problem.strerror}", hint=f"ls -l {path}") from None
    if len(data) > LARGEST_FILE:
        raise ConfigError(
            f"the token file {path} is larger than {LARGEST_FILE} bytes", hint=f"one token a line: {FORM}"
        )
    found = Declared([], [])
    for number, line in enumerate(map(str.strip, data.decode("utf-8", "replace").splitlines()), 1):
        where = f"line {number} of {path}"
        if line.startswith("org "):
            found.orgs.append(line.removeprefix("org ").strip())
            parse_org(found.orgs[-1], where)
        elif line and not line.startswith("#"):  # `#` starts a comment
            found.tokens.append(line)
            parse_token(line, where, option="")
    return found


def declared_in_environment(environment: Mapping[str, str]) -> Declared:
    """Read tokens from `HUBDPO_HUB_TOKENS` and organisations from `HUBDPO_HUB_ORGS`, separated by spaces."""
    found = Declared(environment.get(VARIABLE, "").split(), environment.get(ORGS_VARIABLE, "").split())
    for token in found.tokens:
        parse_token(token, f"a token in {VARIABLE}", option=f"export {VARIABLE}=")
    for org in found.orgs:
        parse_org(org, f"an organisation in {ORGS_VARIABLE}")
    return found


def bare_hash(value: str) -> str:
    return hashlib.sha256(value.encode()).hexdigest()


def keyed_hash(key: bytes, bare: str) -> str:
    """Return the stored form of a token. The key is in another file, so the database alone gives no token away."""
    return KEYED + hmac.new(key, bare.encode(), "sha256").hexdigest()


class Signed(NamedTuple):
    """The reader and repo that a signed URL or a Xet token names."""

    reader: str
    kind: str
    repo_id: str


class Signer:
    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def query(self, kind: str, repo_id: str, reader: str, *parts: str) -> str:
        """Return the query string of a URL signed for a repo, a reader and `parts`."""
        until = str(int(time.time()) + LIFETIME_S)
        signature = self._signature(kind, repo_id, reader, *parts, until)
        named = urlencode({"repo": f"{kind}/{repo_id}", "reader": reader})
        return f"{named}&until={until}&signature={signature}"

    def check(self, request: Request, *parts: str) -> Signed:
        """Return the reader and repo of a signed URL. Raise Refusal 403 for a wrong or expired signature."""
        kind, _, repo_id = request.parameter("repo").partition("/")
        reader, until = request.parameter("reader"), request.parameter("until", "0")
        signature = self._signature(kind, repo_id, reader, *parts, until)
        sent = request.parameter("signature")
        if not hmac.compare_digest(signature.encode(), sent.encode()) or int(until) < time.time():
            raise Refusal(403, "the URL is not signed, or has expired")
        request.signed_for = reader
        return Signed(reader, kind, repo_id)

    def token(self, scope: str, kind: str, repo_id: str, reader: str) -> tuple[str, int]:
        """Return a Xet token for the scope `read` or `write` of a repo, and its expiry, in seconds since the epoch."""
        until = int(time.time()) + LIFETIME_S
        claims = base64.urlsafe_b64encode(json.dumps([scope, kind, repo_id, reader, until]).encode()).decode()
        return f"{claims}.{self._signature('xet', claims)}", until

    def granted(self, request: Request, needed: str) -> Signed:
        """Return what a bearer token names. Raise Refusal 401 if it is invalid or expired, 403 if it may only read."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        claims, _, signature = token.partition(".")
        expected = self._signature("xet", claims)
        if scheme.lower() != "bearer" or not hmac.compare_digest(expected.encode(), signature.encode()):
            raise Refusal(401, "the Xet token is not valid")
        scope, kind, repo_id, reader, until = json.loads(base64.urlsafe_b64decode(claims))
        if until < time.time():
            raise Refusal(401, "the Xet token has expired")
        request.signed_for = reader
        if scope == "write":
            request.body.trust()
        elif needed == "write":
            raise Refusal(403, "this needs a write token")
        return Signed(reader, kind, repo_id)

    def key(self, purpose: str) -> bytes:
        """Derive a 32-byte key that lasts as long as the secret."""
        return hmac.new(self._secret, f"key\n{purpose}".encode(), "sha256").digest()

    def _signature(self, *parts: str) -> str:
        return hmac.new(self._secret, "\n".join(parts).encode(), "sha256").hexdigest()
