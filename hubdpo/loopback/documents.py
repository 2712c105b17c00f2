"""JSON that is kept in a file and replaced whole: what is not git and not a large file."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any


def read_document(path: Path) -> list[dict[str, Any]]:
    """Return the entries of a file; none when it was never written."""
    entries: list[dict[str, Any]] = json.loads(path.read_bytes()) if path.exists() else []
    return entries


def write_document(path: Path, entries: list[dict[str, Any]]) -> None:
    """Replace the file, on disk before this returns; a crash leaves the old one."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".lock")
    with os.fdopen(handle, "w", encoding="utf-8") as stream:
        json.dump(entries, stream)
        stream.flush()
        os.fsync(stream.fileno())
    Path(name).replace(path)
