"""Repeat a request to the Hub, or a judge of answers, until its outcome is known, with growing pauses in between."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from hubdpo import console
from hubdpo.hub.failures import asked_pause, in_words, is_unknown_name, is_unknown_outcome, nothing_listens
from hubdpo.hub.transport import MAX_RETRY_AFTER_S, http, hub_address, unrepeated

T = TypeVar("T")
Tell = Callable[[str], None]
TRIES = 8
FEW_TRIES = 3
"""Attempts, within a second, where the files are cached as well, or where no server runs at an address of this machine,
or the name of the host leads nowhere.
"""
LONG_S, MOST_LONG = 15.0, 3
"""Seconds of a long attempt, and most attempts that take so long: a Hub that never answers is left after a minute."""
LONGEST_WAIT_S = 30.0
MOST_PAUSES = 2
"""Most pauses that the Hub may ask for, where they are longer than LONGEST_WAIT_S: one window, and a second in full."""
TOLD_S = 2.0
clock, pause = time.monotonic, time.sleep


def repeat(call: Callable[[], T], *, cached: bool = False, of: str | None = None, tell: Tell = console.info) -> T:
    """Return the result of a call that is safe to repeat, after at most TRIES attempts.

    With `cached` the caller can do without the Hub, so a Hub that does not answer is left within a second, or after one
    timeout, and no pause is made that it asks for. `of` names the server where it is not the Hub, and `tell` gets what
    is said of long pauses.
    """
    tries = FEW_TRIES if cached else TRIES
    long = 0
    for attempt in range(TRIES):
        began = clock()
        try:
            with unrepeated():
                return call()
        except Exception as problem:
            is_timeout = isinstance(problem, http().TimeoutException)
            was_long = is_timeout or clock() - began > LONG_S
            long += was_long
            is_left = cached and (is_timeout or (asked_pause(problem) or 0) > TOLD_S)
            tries = FEW_TRIES if nothing_listens(problem) or is_unknown_name(problem) else tries
            if attempt + 1 >= tries or long == MOST_LONG or is_left or not is_unknown_outcome(problem):
                raise
            wait_before(attempt, problem, tries, told=was_long, of=of, tell=tell)
    raise AssertionError("unreachable")


def wait_before(
    attempt: int,
    problem: Exception | None = None,
    tries: int = TRIES,
    *,
    told: bool = False,
    of: str | None = None,
    tell: Tell = console.info,
) -> None:
    """Wait before the next attempt: as long as the server asks for, else twice as long each time.

    Raise the problem again where the server asks for too long a pause, or for too many. A pause of more than TOLD_S is
    told, and any pause where `told`.
    """
    asked = asked_pause(problem)
    if problem is not None and asked is not None and asked > LONGEST_WAIT_S:
        tries = min(tries, MOST_PAUSES + 1)
        if asked > MAX_RETRY_AFTER_S or attempt + 1 >= tries:
            raise problem
    delay = min(0.25 * 2**attempt, LONGEST_WAIT_S) if asked is None else asked
    if problem is not None and (told or delay > TOLD_S):
        what = "trying again" if asked is None else "it asks for a pause, so trying again"
        when = f"in {delay:.0f} s" if delay >= 1 else "now"
        tell(f"{of or hub_address()} {in_words(problem)}; {what} {when} (attempt {attempt + 2} of {tries})")
    pause(delay)
