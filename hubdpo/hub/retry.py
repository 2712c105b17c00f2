"""TODO."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from typing import TypeVar

from hubdpo import console
from hubdpo.hub.failures import is_unknown_outcome

T = TypeVar("T")
TRIES = 8
LONGEST_WAIT_S = 30.0
LONGEST_TOLD_WAIT_S = 310.0
"""The Hub counts requests in windows of five minutes, so it never asks for a longer wait."""
pause = time.sleep


def wait_before(attempt: int, problem: BaseException | None = None) -> None:
    """Wait longer from try to try; as long as the server says, when it says."""
    response = getattr(problem, "response", None)
    told = told_wait(response.headers) if response is not None else None
    if told is None:
        pause(min(0.25 * 2**attempt, LONGEST_WAIT_S))
        return
    if told > 2:
        console.info(f"the Hub asks for a pause of {told:.0f} s")
    pause(min(told, LONGEST_TOLD_WAIT_S))


def told_wait(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that an answer asks to wait, None when it asks for none.

    By `RateLimit: "api";r=0;t=55` (draft-ietf-httpapi-ratelimit-headers; r requests are left for t seconds), which the
    Hub sends, or by `Retry-After: 55`.
    """
    limit = re.search(r";\s*r=(\d+).*;\s*t=(\d+)", headers.get("RateLimit", ""))
    if limit and int(limit[1]) == 0:
        return int(limit[2]) + 1.0  # the seconds are rounded down
    told = headers.get("Retry-After", "")
    return float(told) if told.isdigit() else None


def repeat(call: Callable[[], T]) -> T:
    """Call what can be repeated without harm until an answer comes, at most TRIES times."""
    for attempt in range(TRIES):
        try:
            return call()
        except Exception as problem:
            if not is_unknown_outcome(problem) or attempt == TRIES - 1:
                raise
            wait_before(attempt, problem)
    raise AssertionError("unreachable")
