"""Keep what an evaluation computed at great cost, so that a killed one goes on and the next one asks nothing twice.

A file in `RUN/evaluation/` (EVALUATION_FOLDER) has a JSON object a line: `key`, the SHA-256 of all that the result
depends on, and the result. It is appended to and never rewritten; it stays on this machine, because it may hold rows of
the dataset.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
from pydantic import TypeAdapter

from hubdpo import console


class Kept:
    """The results in a file, by key. Threads may use one together.

    A line that a kill cut short, or that somebody edited so that it is no result of this `shape`, is left out.
    """

    def __init__(self, path: Path, shape: TypeAdapter[Any]) -> None:
        self._path = path
        self._results: dict[str, dict[str, Any]] = {}
        self._lock = threading.Lock()
        damaged = 0
        lines = path.read_bytes().split(b"\n") if path.exists() else [b""]
        for line in filter(None, lines):
            try:
                found = orjson.loads(line)
                key = found.pop("key")
                shape.validate_python(found, strict=True)
                self._results[key] = found
            except (ValueError, KeyError, AttributeError, TypeError):
                damaged += 1
        if damaged:
            console.warn(f"`{path}`: {console.counted(damaged, 'line')} cannot be read, and will be computed again")
        self._starts_line = lines[-1] == b""

    def get(self, key: str) -> dict[str, Any] | None:
        """Return the result of a key, None where there is none yet."""
        return self._results.get(key)

    def add(self, results: Mapping[str, dict[str, Any]]) -> None:
        """Append results by key, all of them in one write, and keep them once they are on the disk."""
        lines = b"".join(orjson.dumps({"key": key, **result}) + b"\n" for key, result in results.items())
        with self._lock:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("ab") as stream:
                stream.write(lines if self._starts_line else b"\n" + lines)
            self._starts_line = True
            self._results.update(results)
