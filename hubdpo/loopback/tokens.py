"""Tokens as they are given: on the command line, in a file, in the environment. They are kept as keyed hashes alone."""

from __future__ import annotations

import hashlib
import hmac
import re
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path

from hubdpo.errors import ConfigError
from hubdpo.loopback.names import RESERVED, owner_name
from hubdpo.loopback.wire import Refusal

FORM = "NAME:VALUE[:read|write]"
EXAMPLE = "--token me:hf_local_token:write"
VARIABLE = "HUBDPO_HUB_TOKENS"
LARGEST_FILE = 1 << 20
KEYED = "k:"
"""How the hash of a token begins in the table; one without it is from a version that did not use a key."""


def parse_token(text: str, where: str = "a token") -> tuple[str, str, bool]:
    """Read `NAME:VALUE[:read|write]` into name, value and whether it may write. Raise ConfigError for another form.

    The error names the place and not the text, which is a secret.
    """
    match = re.fullmatch(r"([\w.-]+):([^:\s]+)(?::(read|write))?", text, re.ASCII)
    if match is None or not text.isascii():
        raise ConfigError(f"{where} is not {FORM}, in ASCII", hint=EXAMPLE)
    try:
        owner_name(match[1])
    except Refusal:
        raise ConfigError(
            f"{where} is not {FORM}: NAME has at most 96 characters, as the first part of a repo's id, and is no word "
            f"of the Hub's own ({', '.join(sorted(RESERVED))})",
            hint=EXAMPLE,
        ) from None
    return match[1], match[2], match[3] != "read"


def parse_tokens(texts: Iterable[str]) -> list[tuple[str, str, bool]]:
    """Read tokens; the last word about one counts. Raise ConfigError, without the value, for one of two users."""
    names: dict[str, str] = {}
    parsed = [parse_token(text) for text in texts]
    for name, value, _ in parsed:
        if names.setdefault(value, name) != name:
            raise ConfigError(f"{names[value]} and {name} have the same token", hint="give each a VALUE of their own")
    return parsed


def tokens_in_file(path: Path) -> list[str]:
    """Return the tokens of a file, one a line, `#` before comments. Raise ConfigError when others can read the file."""
    try:
        with path.open("rb") as stream:
            mode = path.stat().st_mode
            if stat.S_ISREG(mode) and mode & 0o077:
                raise ConfigError(f"other users can read the token file {path}", hint=f"chmod 600 {path}")
            data = stream.read(LARGEST_FILE + 1)
    except OSError as problem:
        raise ConfigError(f"the token file {path} cannot be read: {problem.strerror}", hint=f"ls -l {path}") from None
    if len(data) > LARGEST_FILE:
        raise ConfigError(f"the token file {path} is larger than {LARGEST_FILE} bytes", hint=f"one line each: {FORM}")
    lines = [line.strip() for line in data.decode("utf-8", "replace").splitlines()]
    for number, line in enumerate(lines, 1):
        if line and not line.startswith("#"):
            parse_token(line, f"line {number} of {path}")
    return [line for line in lines if line and not line.startswith("#")]


def tokens_in_environment(environment: Mapping[str, str]) -> list[str]:
    """Return the tokens of `HUBDPO_HUB_TOKENS`, with spaces between them."""
    tokens = environment.get(VARIABLE, "").split()
    for token in tokens:
        parse_token(token, f"a token in {VARIABLE}")
    return tokens


def bare_hash(value: str) -> str:
    return hashlib.sha256(value.encode()).hexdigest()


def keyed_hash(key: bytes, bare: str) -> str:
    """Return what is kept of a token: without the key, which is in another file, no token can be guessed from it."""
    return KEYED + hmac.new(key, bare.encode(), "sha256").hexdigest()
