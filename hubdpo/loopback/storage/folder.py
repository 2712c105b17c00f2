"""The Hub folder on disk: private to the user, locked by one server; with its secret, and atomic writes of files."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import shutil
import sqlite3
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, BinaryIO

from hubdpo import console
from hubdpo.errors import ConfigError, MachineError
from hubdpo.loopback.http.wire import JSON

SECRET_SIZE = 32
PARTS = ("repos", "lfs", "xorbs", "incoming")
FILES = ("hub.sqlite", "hub.sqlite-wal", "hub.sqlite-shm", "collections.json", "owner.lock", "secret")
"""The folders and files at the top of a Hub folder."""


class Taken(ConfigError):
    """Another server uses the folder."""


@contextmanager
def made_or_left(root: Path) -> Iterator[None]:
    """Raise MachineError if the block fails to open the folder, after removing the folders that it created."""
    absent = [folder for folder in (root, *root.parents) if not folder.exists()]
    try:
        yield
    except BaseException as problem:
        if absent and not isinstance(problem, Taken):
            shutil.rmtree(absent[-1], ignore_errors=True)
        if isinstance(problem, (OSError, sqlite3.Error)):
            reason = problem.strerror if isinstance(problem, OSError) and problem.strerror else str(problem)
            existing = absent[-1].parent if absent else root
            raise MachineError(f"the Hub cannot write to {root}: {reason}", hint=f"df -h {existing}") from None
        raise


def close_to_others(root: Path) -> None:
    """Restrict the parts of the folder, created if missing, to the user alone, whatever the umask."""
    if stat.S_IMODE(root.stat().st_mode) & 0o077:
        if all(path.name in (*PARTS, *FILES) for path in root.iterdir()):
            root.chmod(0o700)
        else:  # it also holds other files
            console.warn(f"other users of this machine can open {root}, the folder of the Hub")
            console.hint(f"chmod 700 {root}")
    for part in PARTS:
        (root / part).mkdir(mode=0o700, exist_ok=True)
        (root / part).chmod(0o700)
    os.close(os.open(root / "hub.sqlite", os.O_CREAT | os.O_RDWR, 0o600))
    for name in FILES:
        if (root / name).exists():
            (root / name).chmod(0o600)


def hold(root: Path) -> IO[str]:
    """Lock the folder until the returned file is closed. Raise Taken if another server has it."""
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    owner = os.fdopen(os.open(root / "owner.lock", os.O_CREAT | os.O_WRONLY, 0o600), "w")
    try:
        fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner.close()
        raise Taken(f"another server uses this folder: {root}", hint="stop it, or use another folder") from None
    return owner


def sweep(root: Path) -> None:
    """Remove the temporary files of a killed server; dulwich's lock files would block every later commit."""
    left = [*(root / "incoming").iterdir(), *root.glob("*.lock"), *(root / "repos").rglob("*.lock")]
    for path in left:
        if path.is_file() and path.name != "owner.lock":
            path.unlink()
        elif path.parent.name == "incoming":  # what pages compared
            shutil.rmtree(path)


def signing_secret(root: Path) -> tuple[bytes, bool]:
    """Return the secret, and whether it is new. Raise ConfigError for a truncated one, which could be guessed."""
    path = root / "secret"
    if new := not path.exists():
        with written_whole(path) as stream:
            stream.write(secrets.token_bytes(SECRET_SIZE))
    secret = path.read_bytes()
    if len(secret) != SECRET_SIZE:
        raise ConfigError(
            f"the signing secret {path} has {len(secret)} bytes instead of {SECRET_SIZE}: URLs could be forged",
            hint=f"rm {path}     (the next start makes a new one; signed URLs expire, tokens must be given again)",
        )
    return secret, new


@contextmanager
def written_whole(path: Path, *, beside: Path | None = None) -> Iterator[BinaryIO]:
    """Yield a stream that replaces `path`, synced to disk, when the block ends; an error changes nothing."""
    # the next start of a server sweeps `.lock` files away
    handle, name = tempfile.mkstemp(dir=beside or path.parent, prefix=path.name, suffix=".lock")
    part = Path(name)
    try:
        with os.fdopen(handle, "w+b") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        path.parent.mkdir(parents=True, exist_ok=True)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def size_of(path: Path) -> int:
    """Return the bytes of a file, 0 for a folder or a file that is gone."""
    with contextlib.suppress(FileNotFoundError):
        status = path.stat()
        return status.st_size if stat.S_ISREG(status.st_mode) else 0
    return 0


def bytes_below(folder: Path) -> int:
    """Return the bytes of the files in a folder and its subfolders, which others may be removing meanwhile."""
    # Path.rglob raises for a subfolder that goes while it is read, os.walk goes past it
    return sum(size_of(Path(parent, name)) for parent, _, names in os.walk(folder) for name in names)


def read_document(path: Path) -> list[JSON]:
    """Return the entries of a JSON file, [] if it does not exist."""
    entries: list[JSON] = json.loads(path.read_bytes()) if path.exists() else []
    return entries


def write_document(path: Path, entries: list[JSON]) -> None:
    """Replace a JSON file atomically."""
    with written_whole(path) as stream:
        stream.write(json.dumps(entries).encode())
