"""Take the first signal that would end a process as a request to end soon, and the second as an order."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

REPEAT_WINDOW = 1.0
"""Seconds in which signals count as one: a closed terminal, `timeout` and launchers send a signal several times."""
STOPPING = "stopping  once this step is done and saved; Ctrl-C again stops at once"
REQUESTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def first_signal_asks(ask: Callable[[], bool]) -> Iterator[None]:
    """Call `ask` at the first signal in the body, and raise KeyboardInterrupt when the body ends.

    If `ask` returns False, and at a later signal, the handler of before interrupts the body. Signals that are ignored
    stay so, and in another thread than the main one nothing changes.
    """
    received: list[tuple[int, float]] = []

    def handle(number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if not received:
            received.append((number, now))
            if not ask():
                before[number](number, frame)
        elif now - received[0][1] > REPEAT_WINDOW:
            before[number](number, frame)

    before: dict[int, Callable[[int, FrameType | None], object]] = {
        number: handler
        for number in (REQUESTS if threading.current_thread() is threading.main_thread() else ())
        # SIG_DFL and SIG_IGN are members of an enum, which can be called
        if callable(handler := signal.getsignal(number)) and not isinstance(handler, signal.Handlers)
    }
    for number in before:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if received:
        before[received[0][0]](received[0][0], None)
        raise KeyboardInterrupt
