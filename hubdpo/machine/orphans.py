"""Processes that end with the one that started them, however that ends: a killed one cannot ask for it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

LOOKS_EVERY = 0.5
"""Seconds between two looks at the parent."""


def end_with_parent(parent: int, end: Callable[[], object] = lambda: os._exit(1)) -> None:
    """Call `end` in a thread of this process once its parent is another one than `parent`."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(LOOKS_EVERY)
        end()

    threading.Thread(target=watch, daemon=True).start()
