"""Unwind a command on a signal, so that it leaves no process and no temporary folder behind.

A second signal ends the process at once; the next run removes what it leaves.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from hubdpo import console
from hubdpo.machine.signals import REPEAT_WINDOW

FATAL_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
_received: list[tuple[signal.Signals, float]] = []


@contextmanager
def signals_unwind() -> Iterator[None]:
    """Raise KeyboardInterrupt in the body for every signal that ends a process. Call in the main thread.

    An ignored signal, as with `nohup` or in background jobs of a shell, stays ignored.
    """
    owner = os.getpid()

    def unwind(number: int, _: object) -> None:
        if os.getpid() != owner:  # a forked child that has not set its own handlers yet
            os._exit(128 + number)
        now = time.monotonic()
        if not _received:
            _received.append((signal.Signals(number), now))
            raise KeyboardInterrupt(signal.Signals(number).name)
        if now - _received[0][1] > REPEAT_WINDOW:
            os._exit(128 + number)

    before = {number: signal.getsignal(number) for number in FATAL_SIGNALS}
    for number, handler in before.items():
        if handler in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, unwind)
    try:
        yield
    except KeyboardInterrupt:  # outside of a command
        raise SystemExit(128 + stopped_by()) from None
    except SystemExit as end:
        if end.code == 128 + signal.SIGINT:  # typer exits so for every signal
            raise SystemExit(128 + stopped_by()) from None
        raise
    finally:
        if not _received:  # otherwise the interpreter is exiting, and must not be interrupted again
            for number, handler in before.items():
                signal.signal(number, handler)


def stopped_by() -> signal.Signals:
    """Return the signal that stopped the command; SIGINT if Python itself raised KeyboardInterrupt."""
    return _received[0][0] if _received else signal.SIGINT


def until_stopped(serve: Callable[[], None]) -> None:
    """Call `serve`, and return when Ctrl-C or SIGTERM stops it."""
    for ending in (signal.SIGTERM, signal.SIGINT):  # shells start background jobs with SIGINT ignored
        signal.signal(ending, signal.default_int_handler)
    try:
        serve()
    except KeyboardInterrupt:
        console.info("stopped")
