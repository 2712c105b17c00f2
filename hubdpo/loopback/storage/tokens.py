"""Parse tokens from the command line, a file or the environment. Only keyed hashes of them are stored."""

from __future__ import annotations

import hashlib
import hmac
import re
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path

from hubdpo.errors import ConfigError
from hubdpo.loopback.http.wire import Refusal
from hubdpo.loopback.names import RESERVED, owner_name

FORM = "NAME:VALUE[:read|write]"
EXAMPLE = "--token me:hf_local_token:write"
VARIABLE = "HUBDPO_HUB_TOKENS"
LARGEST_FILE = 1 << 20
KEYED = "k:"
"""Prefix of a keyed hash in the token table; older versions stored hashes without a key."""


def parse_token(text: str, where: str = "a token") -> tuple[str, str, bool]:
    """Parse `NAME:VALUE[:read|write]` into name, value and whether it may write. Raise ConfigError for another form.

    The error says `where` the token is, and does not quote it.
    """
    match = re.fullmatch(r"([\w.-]+):([^:\s]+)(?::(read|write))?", text, re.ASCII)
    if match is None or not text.isascii():
        raise ConfigError(f"{where} is not {FORM}, in ASCII", hint=EXAMPLE)
    try:
        owner_name(match[1])
    except Refusal:
        raise ConfigError(
            f"{where} is not {FORM}: NAME is the owner in a repo id, at most 96 characters, and none of "
            f"{', '.join(sorted(RESERVED))}",
            hint=EXAMPLE,
        ) from None
    return match[1], match[2], match[3] != "read"


def parse_tokens(texts: Iterable[str]) -> list[tuple[str, str, bool]]:
    """Parse tokens; of a repeated token the last counts. Raise ConfigError if two users have the same token."""
    names: dict[str, str] = {}
    parsed = [parse_token(text) for text in texts]
    for name, value, _ in parsed:
        if names.setdefault(value, name) != name:
            raise ConfigError(f"{names[value]} and {name} have the same token", hint="give each user another VALUE")
    return parsed


def tokens_in_file(path: Path) -> list[str]:
    """Read tokens from a file, one a line, `#` starts a comment. Raise ConfigError if other users can read the file."""
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
    lines = [line.strip() for line in data.decode("utf-8", "replace").splitlines()]
    for number, line in enumerate(lines, 1):
        if line and not line.startswith("#"):
            parse_token(line, f"line {number} of {path}")
    return [line for line in lines if line and not line.startswith("#")]


def tokens_in_environment(environment: Mapping[str, str]) -> list[str]:
    """Read tokens, separated by spaces, from `HUBDPO_HUB_TOKENS`."""
    tokens = environment.get(VARIABLE, "").split()
    for token in tokens:
        parse_token(token, f"a token in {VARIABLE}")
    return tokens


def bare_hash(value: str) -> str:
    return hashlib.sha256(value.encode()).hexdigest()


def keyed_hash(key: bytes, bare: str) -> str:
    """Return the stored form of a token. The key is in another file, so the database alone gives no token away."""
    return KEYED + hmac.new(key, bare.encode(), "sha256").hexdigest()
