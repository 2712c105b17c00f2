"""Fault injection for tests: error statuses, lost or stale answers, truncated, corrupt or slow bodies, pauses."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass, field
from typing import Literal

from hubdpo.loopback.http.wire import Answer

Kind = Literal[
    "status", "reset-before", "reset-after", "truncate", "corrupt", "slow", "sleep", "hang-before", "hang-after",
    "stale",
]  # fmt: skip


@dataclass
class Fault:
    """A failure of `times` requests with this method and path (a regular expression), after `skip` that succeed.

    * `status` answers with `status` and `headers`
    * `reset-before`, `hang-before` close the connection, or never answer, before the request is carried out
    * `reset-after`, `hang-after` do so after the request was carried out
    * `truncate` sends half of the body, `corrupt` flips one bit of it, `slow` waits `seconds` after every kilobyte
    * `sleep` waits `seconds` before the request is carried out
    * `stale` answers as the same path did before its last change
    """

    kind: Kind
    path: str
    method: str | None = None
    times: int = 1
    skip: int = 0
    status: int = 503
    headers: dict[str, str] = field(default_factory=dict)
    seconds: float = 1.0
    reached: threading.Event = field(default_factory=threading.Event)
    """Set as soon as a request hangs."""

    def matches(self, method: str, path: str) -> bool:
        return self.method in (None, method) and re.search(self.path, path) is not None


class Faults:
    """The active faults, matched with each request."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._answers: dict[str, list[Answer]] = {}
        self._guard = threading.Lock()

    def add(self, fault: Fault) -> None:
        with self._guard:
            self._faults.append(fault)

    def clear(self) -> None:
        with self._guard:
            self._faults.clear()
            self._answers.clear()

    def match(self, method: str, path: str) -> Fault | None:
        """Return the fault of a request, if any, and count the request."""
        with self._guard:
            for fault in self._faults:
                if fault.times > 0 and fault.matches(method, path):
                    if fault.skip <= 0:
                        fault.times -= 1
                        return fault
                    fault.skip -= 1
        return None

    def remember(self, path: str, answer: Answer) -> None:
        """Keep the last two different answers of a path, while a `stale` fault is active."""
        with self._guard:
            if any(fault.kind == "stale" for fault in self._faults):
                known = self._answers.get(path, [])
                if not known or known[-1].content != answer.content:
                    self._answers[path] = [*known[-1:], answer]

    def before(self, path: str) -> Answer | None:
        """Return the answer of a path before its last change."""
        with self._guard:
            return self._answers.get(path, [None])[0]
