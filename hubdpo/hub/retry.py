"""Repeat a request to the Hub until its outcome is known, with growing pauses between the attempts."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TypeVar

from hubdpo import console
from hubdpo.hub.failures import first_line, is_unknown_outcome
from hubdpo.hub.transport import http, hub_address

T = TypeVar("T")
TRIES = 8
TRIES_WITH_CACHE = 3
LONG_S = 20.0
"""Seconds of an attempt after which one more is made: huggingface_hub has repeated the request itself, for 23 s."""
LONGEST_WAIT_S = 30.0
MAX_RETRY_AFTER_S = 310.0
"""The Hub counts requests in windows of five minutes, so it never asks for a longer pause."""
clock, pause = time.monotonic, time.sleep


def repeat(call: Callable[[], T], *, cached: bool = False) -> T:
    """Return the result of a call that is safe to repeat, after at most TRIES attempts.

    With `cached` the caller can do without the Hub, so a Hub that does not answer is left within a second, or after one
    timeout.
    """
    tries = TRIES_WITH_CACHE if cached else TRIES
    for attempt in range(TRIES):
        began = clock()
        try:
            return call()
        except Exception as problem:
            was_long = clock() - began > LONG_S
            tries = min(tries, attempt + 2) if was_long else tries
            is_last = attempt + 1 >= tries or (cached and isinstance(problem, http().TimeoutException))
            if is_last or not is_unknown_outcome(problem):
                raise
            if was_long:
                console.info(f"{hub_address()}: {_reason(problem)}; trying once more")
            wait_before(attempt, problem)
    raise AssertionError("unreachable")


def wait_before(attempt: int, problem: BaseException | None = None) -> None:
    """Wait before the next attempt: as long as the server asks for, else twice as long each time."""
    response = getattr(problem, "response", None)
    delay = retry_after(response.headers) if response is not None else None
    if delay is None:
        delay = min(0.25 * 2**attempt, LONGEST_WAIT_S)
        if delay > 2 and problem is not None:
            console.info(f"{hub_address()}: {_reason(problem)}; trying again in {delay:.0f} s")
        pause(delay)
        return
    if delay > 2:
        console.info(f"the Hub asks for a pause of {delay:.0f} s")
    pause(min(delay, MAX_RETRY_AFTER_S))


def _reason(problem: BaseException) -> str:
    return first_line(problem.__cause__ or problem)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the retry delay in seconds that a response asks for, or None.

    The Hub sends `RateLimit: "api";r=0;t=55` when no requests are left for 55 seconds; proxies send `Retry-After: 55`.
    """
    from huggingface_hub.utils import parse_ratelimit_headers

    limit = parse_ratelimit_headers(headers)
    if limit is not None and limit.remaining == 0:
        return float(limit.reset_in_seconds + 1)  # the Hub rounds the seconds down
    seconds = headers.get("Retry-After", "")
    return float(seconds) if seconds.isdigit() else None
