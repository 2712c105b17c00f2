"""Serve until stopped: what `serve-hub` and `view` have in common."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import NoReturn

from hubdpo import console


def until_stopped(serve: Callable[[], None]) -> None:
    """Call `serve`, and return when Ctrl-C or SIGTERM stops it."""
    for ending in (signal.SIGTERM, signal.SIGINT):  # shells start background jobs with SIGINT ignored
        signal.signal(ending, _interrupt)
    try:
        serve()
    except KeyboardInterrupt:
        console.info("stopped")


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt
