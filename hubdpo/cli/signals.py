"""The signals that end a command: its work unwinds, so that no process and no temporary folder stays behind.

A second one ends the process at once; what it leaves then is swept by the next run.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

ENDINGS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT") if hasattr(signal, name))
TOGETHER = 1.0
"""Seconds in which several signals are one: a closed terminal, `timeout` and launchers send the same twice and more."""

_received: list[tuple[signal.Signals, float]] = []


@contextmanager
def signals_unwind() -> Iterator[None]:
    """Have the signals that end a process raise KeyboardInterrupt in the body, which is the main thread's.

    A signal that is ignored, as by `nohup` and for the background jobs of a shell, stays so.
    """
    owner = os.getpid()

    def unwind(number: int, _: object) -> None:
        if os.getpid() != owner:  # a child that has not yet chosen what to do
            os._exit(128 + number)
        now = time.monotonic()
        if not _received:
            _received.append((signal.Signals(number), now))
            raise KeyboardInterrupt(signal.Signals(number).name)
        if now - _received[0][1] > TOGETHER:
            os._exit(128 + number)

    before = {number: signal.getsignal(number) for number in ENDINGS}
    for number, handler in before.items():
        if handler in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, unwind)
    try:
        yield
    except KeyboardInterrupt:  # outside of every command, or while one ended
        raise SystemExit(128 + stopped_by()) from None
    except SystemExit as end:
        if end.code == 128 + signal.SIGINT:  # what typer makes of every signal
            raise SystemExit(128 + stopped_by()) from None
        raise
    finally:
        if not _received:  # else the interpreter ends, and must not be disturbed by a further one
            for number, handler in before.items():
                signal.signal(number, handler)


def stopped_by() -> signal.Signals:
    """Return the signal that stopped the work; SIGINT where Python turned that into KeyboardInterrupt itself."""
    return _received[0][0] if _received else signal.SIGINT
