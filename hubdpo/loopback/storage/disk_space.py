"""Report a full disk, or too few files or memory, as an error response and not as a bug."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import sys
from pathlib import Path

from hubdpo.loopback.http.wire import Answer, Refusal
from hubdpo.loopback.limits import KEPT_FREE

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
NO_FILES = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN)
NO_ROOM_IN_TABLES = ("SQLITE_FULL", "SQLITE_READONLY", "SQLITE_IOERR")


def machine_refusal(problem: Exception) -> Refusal | None:
    """Return Refusal 507 for a full disk, 503 for too few file descriptors or memory, None for other errors."""
    if isinstance(problem, OSError) and problem.errno in NO_ROOM:
        return Refusal(507, f"the disk of this Hub cannot store it: {os.strerror(problem.errno)}")
    if isinstance(problem, sqlite3.OperationalError):
        name = getattr(problem, "sqlite_errorname", "")
        full = name.startswith(NO_ROOM_IN_TABLES)
        return Refusal(507, f"the disk of this Hub cannot store it: {problem}") if full else None
    if isinstance(problem, MemoryError) or (isinstance(problem, OSError) and problem.errno in NO_FILES):
        return Refusal(503, "this Hub is overloaded, try again later")
    return None


def check_room(folder: Path, size: int) -> None:
    """Raise Refusal 507 if `size` more bytes of large files would leave less than KEPT_FREE on the disk."""
    free = max(shutil.disk_usage(folder).free - KEPT_FREE, 0)
    if size > free:
        raise Refusal(507, f"the disk of this Hub has room for {free:,} bytes, not for {size:,}")


def check_any_room(folder: Path) -> None:
    """Raise Refusal 507, before a client sends a large file, if the disk has no room for any."""
    if shutil.disk_usage(folder).free <= KEPT_FREE:
        raise Refusal(507, f"the disk of this Hub has no room for large files: {KEPT_FREE:,} bytes are reserved")


def as_hf_xet_reads_it(answer: Answer) -> Answer:
    """Adapt an error response to hf_xet, which retries a 507 for minutes and shows its user only the reason phrase."""
    if answer.status >= 400:
        answer.reason = answer.headers.get("X-Error-Message", "")
    if answer.status == 507:
        answer.status = 413
    return answer


def ignore_full_disk(problem: sys.UnraisableHookArgs) -> None:
    """Replace `sys.unraisablehook`: files of dulwich raise ENOSPC a second time when they are garbage-collected."""
    if not (isinstance(problem.exc_value, OSError) and problem.exc_value.errno in NO_ROOM):
        sys.__unraisablehook__(problem)
