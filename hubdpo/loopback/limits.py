"""Limits on what a client may send, and error responses for what the disk, files or memory of this Hub cannot take."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import sys
from pathlib import Path

from hubdpo.loopback.http.wire import Answer, Refusal

LONGEST_LINE, MOST_HEADERS, LARGEST_HEAD = 16 * 2**10, 100, 64 * 2**10
"""Longest request line, header line or chunk-size line in bytes; most headers; most bytes of all headers."""
STRANGER_BODY = 256 * 2**10
"""Largest body, in bytes, of a request without a write token."""
LARGEST_JSON, DEEPEST_JSON = 4 * 2**20, 32
"""Largest JSON body without files, in bytes, and its deepest nesting."""
LARGEST_LINE_OF_COMMIT, MOST_OPERATIONS = 14 * 2**20, 100_000
"""Longest line of a commit request in bytes (one operation), and most lines."""
MOST_NAMED, MOST_RULES, LONGEST_RULE = 1000, 1000, 256
"""Most files in a request, most rules in .gitattributes or .gitignore, and longest rule in characters."""
LARGEST_FILE, KEPT_FREE = 500 * 10**9, 64 * 2**20
"""Largest LFS or Xet file in bytes, as on huggingface.co, and disk space in bytes that such files leave free."""

MOST_CONNECTIONS = 200
IDLE_S, HEAD_S, STRANGER_S, PAUSE_S, LINGER_S, ROOM_S = 120.0, 20.0, 30.0, 60.0, 2.0, 0.5
"""Time-outs in seconds: for the next request on a connection; for a whole head; for a whole body without a write token;
between two reads or writes otherwise; for a refused client to stop sending; for a free connection before a 503."""
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
NO_FILES = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN)
NO_ROOM_IN_TABLES = ("SQLITE_FULL", "SQLITE_READONLY", "SQLITE_IOERR")


def most_connections() -> int:
    """Return the number of connections to serve at a time; each may need several file descriptors."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return MOST_CONNECTIONS if files == resource.RLIM_INFINITY else max(4, min(MOST_CONNECTIONS, files // 4))


def machine_refusal(problem: Exception) -> Refusal | None:
    """Return Refusal 507 for a full disk, 503 for too few file descriptors or memory, None for other errors."""
    if isinstance(problem, OSError) and problem.errno in NO_ROOM:
        return Refusal(507, f"the disk of this Hub cannot store it: {os.strerror(problem.errno)}")
    if getattr(problem, "sqlite_errorname", "").startswith(NO_ROOM_IN_TABLES):
        return Refusal(507, f"the disk of this Hub cannot store it: {problem}")
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
