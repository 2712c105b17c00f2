"""The access log: one line for each request, without its query, headers or body, which may hold secrets."""

from __future__ import annotations

import os
import threading
from datetime import UTC, datetime
from pathlib import Path

from hubdpo import console
from hubdpo.errors import ConfigError
from hubdpo.loopback.http.server import Logged

STDERR, STDERR_FILE = "-", 2


class AccessLog:
    """Append lines to a file that only the user can read, or to stderr for `-`. Raise ConfigError if it cannot.

    A line is `TIME ID METHOD PATH STATUS BYTES MILLISECONDS USER`. The path is as it was sent, percent-encoded, so no
    field has a space; `-` is a user without a token, or a request that could not be read. The file is opened for each
    line, so one that was moved or removed, as by logrotate, is followed by a new one.
    """

    def __init__(self, place: str) -> None:
        self._path = None if place == STDERR else Path(place)
        self._guard = threading.Lock()
        self._lost = 0
        try:
            os.close(self._opened())
        except OSError as problem:
            raise ConfigError(
                f"the access log {place} cannot be written: {problem.strerror}",
                hint="give the name of a file in a folder that exists, or `-` for stderr",
            ) from None

    def write(self, entry: Logged) -> None:
        """Append a line; if that fails, as on a full disk, the request is served all the same."""
        with self._guard:
            try:
                with os.fdopen(self._opened(), "wb", buffering=0) as file:
                    file.write(_line(entry).encode())
            except OSError as problem:
                if not self._lost:
                    console.warn(
                        f"the access log cannot be written, and requests are missing in it: {problem.strerror}"
                    )
                self._lost += 1
                return
            if self._lost:
                console.warn(f"the access log is written again; {self._lost} requests are missing in it")
                self._lost = 0

    def _opened(self) -> int:
        if self._path is None:
            return os.dup(STDERR_FILE)
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


def _line(entry: Logged) -> str:
    time = datetime.fromtimestamp(entry.time, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    fields = (
        time, entry.id, entry.method, entry.path, str(entry.status), str(entry.sent), f"{entry.seconds * 1000:.0f}",
        entry.user or "-",
    )  # fmt: skip
    return " ".join(field.encode("unicode_escape").decode().replace(" ", r"\x20") for field in fields) + "\n"
