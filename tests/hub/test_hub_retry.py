"""How often the Hub is asked again, and after which pauses."""

from __future__ import annotations

from pathlib import Path

import pytest

from hubdpo import push
from hubdpo.hub import retry
from hubdpo.hub.retry import repeat, retry_after
from hubdpo.hub.transport import http, hub_address
from hubdpo.loopback.faults import Fault, Faults


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that were made, in seconds; none of them takes any time."""
    made: list[float] = []
    monkeypatch.setattr(retry, "LONGEST_WAIT_S", 30.0)
    monkeypatch.setattr(retry, "pause", made.append)
    return made


class Call:
    """A request that fails, always or a few times."""

    def __init__(self, problem: Exception, failures: int = 1_000) -> None:
        self.problem, self.failures, self.made = problem, failures, 0

    def __call__(self) -> str:
        self.made += 1
        if self.made > self.failures:
            return "answer"
        raise self.problem


@pytest.mark.parametrize(
    ("problem", "cached", "attempts"),
    [
        (ConnectionResetError("cut"), False, 8),
        (TimeoutError(), False, 8),
        (ConnectionResetError("cut"), True, 3),
        (ValueError("a bug"), False, 1),
        (ValueError("a bug"), True, 1),
    ],
)
def test_a_hub_that_the_cache_can_replace_is_left_sooner(
    problem: Exception, cached: bool, attempts: int, pauses: list[float]
) -> None:
    call = Call(problem)
    with pytest.raises(type(problem)):
        repeat(call, cached=cached)
    assert call.made == attempts
    assert len(pauses) == attempts - 1
    assert not cached or sum(pauses) < 1


@pytest.mark.parametrize(("cached", "attempts"), [(False, 8), (True, 1)])
def test_one_timeout_is_enough_where_the_cache_can_answer(cached: bool, attempts: int, pauses: list[float]) -> None:
    call = Call(http().ReadTimeout("a minute"))
    with pytest.raises(http().ReadTimeout):
        repeat(call, cached=cached)
    assert (call.made, len(pauses)) == (attempts, attempts - 1)


@pytest.mark.parametrize(
    ("seconds", "attempts"), [([23.0] * 8, 2), ([1.0] * 8, 8), ([1.0, 1.0, 23.0, 23.0], 4), ([23.0, 1.0], 2)]
)
def test_a_call_that_the_client_repeats_itself_is_made_once_more(
    seconds: list[float],
    attempts: int,
    pauses: list[float],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    now = 0.0

    def call() -> None:
        nonlocal now
        now += seconds[len(pauses)]
        raise ConnectionResetError("nobody listens")

    monkeypatch.setattr(retry, "clock", lambda: now)
    with pytest.raises(ConnectionResetError):
        repeat(call)
    assert len(pauses) == attempts - 1
    said = f"{hub_address()}: nobody listens; trying once more\n"
    assert (said in capsys.readouterr().err) is (max(seconds) > 20)


def test_a_pause_of_more_than_two_seconds_is_told_with_its_reason(
    pauses: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    assert repeat(Call(ConnectionResetError("the line was cut"), failures=5)) == "answer"
    assert pauses == [0.25, 0.5, 1.0, 2.0, 4.0]
    assert capsys.readouterr().err == f"{hub_address()}: the line was cut; trying again in 4 s\n"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "7"}, 7),
        ({"RateLimit": '"api";r=0;t=55', "RateLimit-Policy": '"fixed window";"api";q=500;w=300'}, 56),
        ({"RateLimit": '"api";r=12;t=55'}, None),
        ({"RateLimit": '"api";r=0;t=55', "Retry-After": "7"}, 56),
        ({"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}, None),
        ({}, None),
    ],
)
def test_the_pause_that_an_answer_asks_for(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers) == seconds


def test_a_rate_limit_is_waited_for(
    data: Path, repo_id: str, faults: Faults, pauses: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    faults.add(Fault("status", "/tag/", status=429, headers={"RateLimit": '"api";r=0;t=55'}))
    push(folder=data, repo=repo_id, version="1.0.0")
    assert pauses == [56.0]
    assert "asks for a pause of 56 s" in capsys.readouterr().err
