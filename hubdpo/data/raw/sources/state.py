"""Sources that change while they are read: what is recorded of a source is true of the bytes that were read, or nothing
is recorded.

The state of each source is remembered before the first look at it and compared after the last, its hash included.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from hubdpo.artefacts.folders import storage
from hubdpo.errors import DataError

State = tuple[tuple[str, str], ...]
"""What tells that a file is another one: (name, value) pairs, `size` among them."""
TELLING = frozenset({
    "size", "etag", "lastmodified", "mtime", "updated", "created", "ino", "generation", "versionid", "md5hash",
    "contentmd5", "crc32c", "digest",
})  # fmt: skip
"""Facts of a file behind a URL, as the file systems of fsspec call them; others, such as a signed address, may vary."""
TICK, COARSE_TICK = 0.02, 2.0
"""Seconds in which two writes may get the same time: the kernel's clock ticks 100 times a second at least, and old file
systems keep whole seconds, or even ones."""


class Watched(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def original(self) -> str: ...
    @property
    def state(self) -> State: ...


def state_of(place: str, name: str) -> State:
    """Return what a later write would alter. Raise DataError when it is no file, or one that may not be read."""
    if storage.is_url(place):
        system, path = storage.filesystem(place)
        system.invalidate_cache()  # both looks must ask, and ask the same way
        facts = {key.lower().replace("-", "").replace("_", ""): value for key, value in system.info(path).items()}
        return tuple(sorted((key, str(value)) for key, value in facts.items() if key in TELLING))
    try:
        if not stat.S_ISREG(Path(place).stat().st_mode):  # a pipe would be waited for
            raise DataError(f"{name} is a pipe or device, not a file", hint="COMMAND | hubdpo prepare - -o DIR")
        with Path(place).open("rb") as stream:
            found = os.fstat(stream.fileno())  # a network file system asks its server when a file is opened
    except PermissionError:
        raise DataError(f"this file may not be read: {name}", hint=f"ls -l {place}, and ask its owner") from None
    except FileNotFoundError:
        raise DataError(f"{name} is gone, or is a link that leads nowhere", hint=f"ls -l {place}") from None
    except OSError as problem:
        if problem.errno != errno.ELOOP:
            raise
        raise DataError(f"{name} is a link that leads to itself", hint=f"ls -l {place}") from None
    facts = {"size": found.st_size, "mtime": found.st_mtime_ns, "ctime": found.st_ctime_ns, "ino": found.st_ino,
             "dev": found.st_dev}  # fmt: skip
    return tuple((key, str(value)) for key, value in facts.items())


def let_clock_tick(states: Sequence[State]) -> None:
    """Wait until a write from now on gets another time than the last one of each file did."""
    now, wait = time.time(), 0.0
    for state in states:
        facts = dict(state)
        if "ctime" not in facts:  # behind a URL
            continue
        times = [int(facts[key]) for key in ("mtime", "ctime")]
        tick = COARSE_TICK if all(one % 10**9 == 0 for one in times) else TICK
        if 0 <= (left := max(times) / 1e9 + tick - now) <= tick:
            wait = max(wait, left)
    time.sleep(wait)


def check_unchanged(files: Sequence[Watched]) -> None:
    """Raise DataError, naming the first, when files are not as they were before they were read."""
    for file in files:
        try:
            now = state_of(file.original, file.name)
        except (DataError, FileNotFoundError):
            raise DataError(
                f"{file.name} was taken away while it was read", hint="run the same command again when it is back"
            ) from None
        if now != file.state:
            sizes = [int(dict(state).get("size", 0)) for state in (file.state, now)]
            how = f": it had {sizes[0]:,} bytes and has {sizes[1]:,}" if sizes[0] != sizes[1] else ""
            raise DataError(
                f"{file.name} changed while it was read{how}",
                hint="run the same command again when nothing writes the file any more",
            )


@contextlib.contextmanager
def told_of_changes(files: Sequence[Watched]) -> Iterator[None]:
    """Say of what fails in the body that a source changed meanwhile, where one did: the rest follows from it."""
    try:
        yield
    except Exception:
        check_unchanged(files)
        raise
