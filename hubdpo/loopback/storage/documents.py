"""Atomic writes of private files: everything but git objects is written through here."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from hubdpo.loopback.http.wire import JSON


@contextmanager
def written_whole(path: Path, *, beside: Path | None = None) -> Iterator[BinaryIO]:
    """Yield a stream that replaces `path`, synced to disk, when the block ends; an error changes nothing.

    The temporary file is in `beside`, or next to `path`; its `.lock` name is swept away when a server starts.
    """
    handle, name = tempfile.mkstemp(dir=beside or path.parent, prefix=path.name, suffix=".lock")
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        path.parent.mkdir(parents=True, exist_ok=True)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def read_document(path: Path) -> list[JSON]:
    """Return the entries of a JSON file, [] if it does not exist."""
    entries: list[JSON] = json.loads(path.read_bytes()) if path.exists() else []
    return entries


def write_document(path: Path, entries: list[JSON]) -> None:
    """Replace a JSON file atomically."""
    with written_whole(path) as stream:
        stream.write(json.dumps(entries).encode())
