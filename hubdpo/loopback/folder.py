"""The folder of a Hub on disk: closed to other users of the machine, held by one server, with its signing secret."""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from hubdpo import console
from hubdpo.errors import ConfigError, MachineError
from hubdpo.loopback.documents import written_whole

SECRET_SIZE = 32
PARTS = ("repos", "lfs", "xorbs", "incoming")
FILES = ("hub.sqlite", "hub.sqlite-wal", "hub.sqlite-shm", "collections.json", "owner.lock", "secret")
"""The folders and files that a Hub keeps at the top."""


class Taken(ConfigError):
    """Another server has the folder."""


@contextmanager
def made_or_left(root: Path) -> Iterator[None]:
    """Raise MachineError when the folder cannot be opened; one that did not exist before is gone again."""
    absent = [folder for folder in (root, *root.parents) if not folder.exists()]
    try:
        yield
    except BaseException as problem:
        if absent and not isinstance(problem, Taken):
            shutil.rmtree(absent[-1], ignore_errors=True)
        if isinstance(problem, (OSError, sqlite3.Error)):
            reason = problem.strerror if isinstance(problem, OSError) and problem.strerror else str(problem)
            place = absent[-1].parent if absent else root
            raise MachineError(f"the Hub cannot keep its files in {root}: {reason}", hint=f"df -h {place}") from None
        raise


def close_to_others(root: Path) -> None:
    """Make the parts of the folder, with no right for others, whatever the umask; take such rights from older ones.

    A folder that holds other things as well keeps its own rights, with a warning; what the Hub keeps there is closed.
    """
    if stat.S_IMODE(root.stat().st_mode) & 0o077:
        if all(path.name in (*PARTS, *FILES) for path in root.iterdir()):
            root.chmod(0o700)
        else:
            console.warn(f"{root}, where the Hub keeps its files, is open to other users of this machine")
            console.hint(f"chmod 700 {root}")
    for part in PARTS:
        (root / part).mkdir(mode=0o700, exist_ok=True)
        (root / part).chmod(0o700)
    os.close(os.open(root / "hub.sqlite", os.O_CREAT | os.O_RDWR, 0o600))
    for name in FILES:
        if (root / name).exists():
            (root / name).chmod(0o600)


def hold(root: Path) -> IO[Any]:
    """Take the folder for this server until the file is closed. Raise Taken when another server has it."""
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    owner = os.fdopen(os.open(root / "owner.lock", os.O_CREAT | os.O_WRONLY, 0o600), "w")
    try:
        fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner.close()
        raise Taken(f"another server has this folder: {root}", hint="stop it, or give another folder") from None
    return owner


def sweep(root: Path) -> None:
    """Remove what a killed server left half-written; dulwich's lock files would block every later commit."""
    left = [*(root / "incoming").iterdir(), *root.glob("*.lock"), *(root / "repos").rglob("*.lock")]
    for path in left:
        if path.is_file() and path.name != "owner.lock":
            path.unlink()


def signing_secret(root: Path) -> tuple[bytes, bool]:
    """Return the secret and whether it is new. Raise ConfigError for one that is not whole: anybody could guess it."""
    path = root / "secret"
    if new := not path.exists():
        with written_whole(path) as stream:
            stream.write(secrets.token_bytes(SECRET_SIZE))
    secret = path.read_bytes()
    if len(secret) != SECRET_SIZE:
        raise ConfigError(
            f"the signing secret {path} has {len(secret)} bytes instead of {SECRET_SIZE}, so that addresses could be "
            "forged",
            hint=f"rm {path}     (the next start makes a new one; signed addresses end, tokens must be given again)",
        )
    return secret, new
