"""Faults that hit requests of the loopback Hub by chance."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from hubdpo.loopback.faults import Fault, Faults


class Storm(Faults):
    """For each (share, faults), that share of the requests that the faults match meets one of them."""

    def __init__(self, seed: int, *shares: tuple[float, Sequence[Fault]]) -> None:
        super().__init__()
        self._chance, self._shares = random.Random(seed), shares
        # `stale` needs the answers from before a change; this one is never due
        self.add(Fault("stale", "/refs$", times=0))
        self.met: Counter[str] = Counter()
        """Number of requests that failed, by kind of fault, or by status."""

    def match(self, method: str, path: str) -> Fault | None:
        with self._guard:
            fault = self._drawn(method, path)
            if fault is not None:
                self.met[str(fault.status) if fault.kind == "status" else fault.kind] += 1
            return fault

    def _drawn(self, method: str, path: str) -> Fault | None:
        for share, faults in self._shares:
            matching = [fault for fault in faults if fault.matches(method, path)]
            if matching and self._chance.random() < share:
                return replace(self._chance.choice(matching))
        return None
