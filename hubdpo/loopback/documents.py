"""Files that are written whole or not at all, private to the user: what is not git goes to disk through here."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO


@contextmanager
def written_whole(path: Path, *, beside: Path | None = None) -> Iterator[BinaryIO]:
    """Yield a stream whose bytes take the place of `path`, on disk, when the block ends; an error leaves nothing.

    The part that is written stands in `beside`, else next to `path`, with a name that a start sweeps away.
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


def read_document(path: Path) -> list[dict[str, Any]]:
    """Return the entries of a file; none when it was never written."""
    entries: list[dict[str, Any]] = json.loads(path.read_bytes()) if path.exists() else []
    return entries


def write_document(path: Path, entries: list[dict[str, Any]]) -> None:
    """Replace the file, on disk before this returns; a crash leaves the old one."""
    with written_whole(path) as stream:
        stream.write(json.dumps(entries).encode())
