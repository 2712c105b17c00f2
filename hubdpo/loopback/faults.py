"""Failures that a test switches on: a wrong status, a lost answer, a cut or changed body, a pause."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["status", "reset-before", "reset-after", "truncate", "corrupt", "sleep"]


@dataclass
class Fault:
    """Happens to `times` requests of this method and path (a regular expression), after `skip` that pass.

    `reset-after` does the work and loses the answer; `corrupt` flips one byte of the body; `sleep` waits `seconds`.
    """

    kind: Kind
    path: str
    method: str | None = None
    times: int = 1
    skip: int = 0
    status: int = 503
    headers: dict[str, str] = field(default_factory=dict)
    seconds: float = 1.0


class Faults:
    """The faults that are switched on, and which of them meets a request."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._guard = threading.Lock()

    def add(self, fault: Fault) -> None:
        with self._guard:
            self._faults.append(fault)

    def clear(self) -> None:
        with self._guard:
            self._faults.clear()

    def meeting(self, method: str, path: str) -> Fault | None:
        with self._guard:
            for fault in self._faults:
                if fault.times < 1 or fault.method not in (None, method) or not re.search(fault.path, path):
                    continue
                if fault.skip > 0:
                    fault.skip -= 1
                    continue
                fault.times -= 1
                return fault
        return None
