"""A limit on memory is told by what the process took, whatever the tests before it have taken."""

from __future__ import annotations

import pytest

from tests.limited import MOST_MEMORY, run_limited


def test_what_these_tests_take_is_not_counted() -> None:
    taken = bytearray(MOST_MEMORY // 2)
    taken[::4096] = b"x" * len(taken[::4096])  # every page, or the kernel gives none
    run = run_limited(["-c", "print(1)"])
    assert (run.code, run.out) == (0, "1\n")
    assert run.memory < MOST_MEMORY // 10


def test_more_memory_than_allowed_fails() -> None:
    with pytest.raises(AssertionError, match="1,[0-9,]+ bytes"):
        run_limited(["-c", f"bytearray(b'x') * {MOST_MEMORY}"])


def test_more_seconds_than_allowed_fail() -> None:
    with pytest.raises(AssertionError, match="[12][.][0-9] s"):
        run_limited(["-c", "while True: pass"], most_seconds=1)


def test_the_exit_code_and_what_was_said_are_kept() -> None:
    run = run_limited(["-c", "import sys; print(sys.stdin.read(), file=sys.stderr); sys.exit(3)"], input="a")
    assert (run.code, run.out, run.err) == (3, "", "a\n")
