"""End a process together with its parent, even a parent that was killed and could not ask for it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

POLL_INTERVAL = 0.5
"""Seconds between two checks of the parent."""


def end_with_parent(parent: int, end: Callable[[], object] = lambda: os._exit(1)) -> None:
    """Call `end`, in a thread, once the parent of this process is no longer `parent`."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(POLL_INTERVAL)
        end()

    threading.Thread(target=watch, daemon=True).start()
