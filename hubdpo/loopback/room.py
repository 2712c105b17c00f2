"""What this machine has no more room for, as answers: the fault is not one of the code, and not one of the request."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import sys
from pathlib import Path

from hubdpo.loopback.limits import KEPT_FREE
from hubdpo.loopback.wire import Answer, Refusal

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
NO_FILES = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN)
NO_ROOM_IN_TABLES = ("SQLITE_FULL", "SQLITE_READONLY", "SQLITE_IOERR")


def of_this_machine(problem: Exception) -> Refusal | None:
    """Return the answer to a request that met a full disk (507) or the end of files and memory (503), else None."""
    if isinstance(problem, OSError) and problem.errno in NO_ROOM:
        return Refusal(507, f"the disk of this Hub cannot keep it: {os.strerror(problem.errno)}")
    if isinstance(problem, sqlite3.OperationalError):
        name = getattr(problem, "sqlite_errorname", "")
        full = name.startswith(NO_ROOM_IN_TABLES)
        return Refusal(507, f"the disk of this Hub cannot keep it: {problem}") if full else None
    if isinstance(problem, MemoryError) or (isinstance(problem, OSError) and problem.errno in NO_FILES):
        return Refusal(503, "this Hub has too much to do at this time")
    return None


def check_room(folder: Path, size: int) -> None:
    """Raise Refusal 507 when the disk has no room for so many bytes of large files beside what stays free of them."""
    free = max(shutil.disk_usage(folder).free - KEPT_FREE, 0)
    if size > free:
        raise Refusal(507, f"the disk of this Hub has room for {free:,} bytes, not for {size:,}")


def check_any_room(folder: Path) -> None:
    """Raise Refusal 507 when the disk has no room for large files at all, before the first of them is sent."""
    if shutil.disk_usage(folder).free <= KEPT_FREE:
        raise Refusal(507, f"the disk of this Hub has no room for large files: {KEPT_FREE:,} bytes stay free of them")


def told_to_xet(answer: Answer) -> Answer:
    """Return an answer as hf_xet takes it: it asks on for minutes after a 507, and tells its user the reason alone."""
    if answer.status >= 400:
        answer.reason = answer.headers.get("X-Error-Message", "")
    if answer.status == 507:
        answer.status = 413
    return answer


def say_it_once(problem: sys.UnraisableHookArgs) -> None:
    """Take the place of `sys.unraisablehook`: dulwich's files meet a full disk again when they are thrown away."""
    if not (isinstance(problem.exc_value, OSError) and problem.exc_value.errno in NO_ROOM):
        sys.__unraisablehook__(problem)
