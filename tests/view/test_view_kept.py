"""What pages keep: each name is made once, other names do not wait, and what can go on for ever is bounded."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor, wait

import pytest

from hubdpo.view.kept import Kept

PATIENCE_S = 60


def test_two_visitors_of_one_name_wait_for_one_computation() -> None:
    kept, begun, go = Kept(), threading.Event(), threading.Event()
    made = []

    def make() -> object:
        begun.set()
        assert go.wait(PATIENCE_S)
        made.append(object())
        return made[-1]

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(kept.take, "a", make)
        assert begun.wait(PATIENCE_S)
        second = pool.submit(kept.take, "a", make)
        assert not wait([second], timeout=0.1).done
        go.set()
        assert first.result(PATIENCE_S) is second.result(PATIENCE_S) and len(made) == 1
    assert not kept._turns


def test_other_names_do_not_wait() -> None:
    kept, begun, go = Kept(), threading.Event(), threading.Event()

    def slow() -> str:
        begun.set()
        assert go.wait(PATIENCE_S)
        return "slow"

    with ThreadPoolExecutor(2) as pool:
        waits = pool.submit(kept.take, "slow", slow)
        assert begun.wait(PATIENCE_S)
        try:
            assert pool.submit(kept.take, "fast", lambda: "fast").result(PATIENCE_S) == "fast"
        finally:
            go.set()
        assert waits.result(PATIENCE_S) == "slow"


def test_one_name_may_need_another() -> None:
    kept = Kept()
    assert kept.take("outer", lambda: kept.take("inner", lambda: 1) + 1) == 2
    assert kept.take("inner", lambda: 0) == 1


def test_an_error_leaves_nothing_behind() -> None:
    kept = Kept()
    with pytest.raises(ZeroDivisionError):
        kept.take("a", lambda: 1 / 0)
    assert kept.take("a", lambda: 2) == 2


def test_none_is_kept_too() -> None:
    kept: Kept = Kept()
    kept.take("a", lambda: None)
    assert kept.take("a", lambda: 1) is None  # type: ignore[comparison-overlap]


def test_those_used_last_stay() -> None:
    kept = Kept(2)
    for name in ("a", "b", "a", "c"):
        kept.take(name, lambda: "made first")
    assert kept.take("a", lambda: "again") == "made first"
    assert kept.take("b", lambda: "again") == "again"
