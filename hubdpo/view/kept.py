"""What pages have made and may show again: each name is made once, and other names do not wait for it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, TypeVar, cast
from weakref import WeakValueDictionary

Made = TypeVar("Made")


class Kept:
    """Values by name; of those that weigh more than `most` together, the ones used last stay."""

    def __init__(self, most: int | None = None, weigh: Callable[[Any], int] = lambda made: 1) -> None:
        self._most, self._weigh, self._weight = most, weigh, 0
        self._made: OrderedDict[str, Any] = OrderedDict()
        self._turns: WeakValueDictionary[str, threading.RLock] = WeakValueDictionary()  # of those who want a name now
        self._guard = threading.Lock()

    def take(self, name: str, make: Callable[[], Made]) -> Made:
        """Return what was made under a name, or make it; an error in there leaves nothing behind."""
        with self._guard:
            turn = self._turns.setdefault(name, threading.RLock())
        with turn:
            with self._guard:
                if name in self._made:
                    self._made.move_to_end(name)
                    return cast("Made", self._made[name])
            made = make()
            with self._guard:
                self._made[name] = made
                self._weight += self._weigh(made)
                while self._most is not None and self._weight > self._most:
                    self._weight -= self._weigh(self._made.popitem(last=False)[1])
            return made
