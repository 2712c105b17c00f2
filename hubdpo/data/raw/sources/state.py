"""Notice sources that change while they are read: what the manifest records is true of the bytes that were read.

The state of each source is taken before the first read and compared after the last one, which computes its hash.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hubdpo.artefacts.folders import storage
from hubdpo.errors import DataError, Instead

if TYPE_CHECKING:
    from hubdpo.data.raw.raw_file import RawFile

State = tuple[tuple[str, str], ...]
"""(name, value) pairs that differ if the file does, `size` among them."""
URL_FACTS = frozenset({
    "size", "etag", "lastmodified", "mtime", "updated", "created", "ino", "generation", "versionid", "md5hash",
    "contentmd5", "crc32c", "digest",
})  # fmt: skip
"""Facts of fsspec's file systems that identify a file's content; others, such as a signed address, may vary."""
TICK, COARSE_TICK = 0.02, 2.0
"""Seconds within which two writes may get the same time: the kernel's clock ticks at least 100 times per second, and
old file systems store whole seconds, or even ones only."""


def state_of(path: str, name: str) -> State:
    """Return the facts that a later write would change. Raise DataError for anything but a readable file."""
    if storage.is_url(path):
        system, inside = storage.filesystem(path)
        system.invalidate_cache()  # the second look must ask the server as the first one did
        facts = {key.lower().replace("-", "").replace("_", ""): value for key, value in system.info(inside).items()}
        return tuple(sorted((key, str(value)) for key, value in facts.items() if key in URL_FACTS))
    try:
        if not stat.S_ISREG(Path(path).stat().st_mode):  # opening a pipe would wait
            problem = f"{path} is a pipe or device, not a file; `-` reads what is piped into hubdpo"
            raise DataError(problem, hint=Instead(path, "-"))
        with Path(path).open("rb") as stream:
            info = os.fstat(stream.fileno())  # a network file system asks its server when a file is opened
    except PermissionError:
        raise DataError(f"this file may not be read: {name}", hint=f"ls -l {path}, and ask its owner") from None
    except FileNotFoundError:
        raise DataError(f"{name} is gone, or is a link that leads nowhere", hint=f"ls -l {path}") from None
    except OSError as problem:
        if problem.errno != errno.ELOOP:
            raise
        raise DataError(f"{name} is a link that leads to itself", hint=f"ls -l {path}") from None
    attributes = {"size": "size", "mtime": "mtime_ns", "ctime": "ctime_ns", "ino": "ino", "dev": "dev"}
    return tuple((key, str(getattr(info, f"st_{attribute}"))) for key, attribute in attributes.items())


def let_clock_tick(states: Sequence[State]) -> None:
    """Sleep until a write from now on gets a later time than the last write of each file."""
    now, wait = time.time(), 0.0
    for state in states:
        facts = dict(state)
        if "ctime" not in facts:  # a URL
            continue
        times = [int(facts[key]) for key in ("mtime", "ctime")]
        tick = COARSE_TICK if all(nanoseconds % 10**9 == 0 for nanoseconds in times) else TICK
        if 0 <= (left := max(times) / 1e9 + tick - now) <= tick:
            wait = max(wait, left)
    time.sleep(wait)


def check_unchanged(files: Sequence[RawFile]) -> None:
    """Raise DataError for the first file that is not as it was before it was read."""
    for file in files:
        try:
            now = state_of(file.original, file.name)
        except (DataError, FileNotFoundError):
            raise DataError(
                f"{file.name} was taken away while it was read", hint="run the same command again when it is back"
            ) from None
        if now != file.state:
            before, after = (int(dict(state).get("size", 0)) for state in (file.state, now))
            sizes = f": it had {before:,} bytes and has {after:,}" if before != after else ""
            raise DataError(
                f"{file.name} changed while it was read{sizes}",
                hint="run the same command again when nothing writes the file any more",
            )


@contextlib.contextmanager
def report_changes(files: Sequence[RawFile]) -> Iterator[None]:
    """If the body fails and a source has changed meanwhile, raise the error about the change instead."""
    try:
        yield
    except Exception:
        check_unchanged(files)
        raise
