"""How often the Hub is asked again, and after which pauses."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from huggingface_hub import HfApi, get_session
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import hf_raise_for_status

from hubdpo import push
from hubdpo.errors import HubError
from hubdpo.hub import failures, retry, transport
from hubdpo.hub.client import resolve
from hubdpo.hub.failures import translate_errors
from hubdpo.hub.repo import RepoSnapshot
from hubdpo.hub.retry import repeat
from hubdpo.hub.transport import api, http, hub_address, retry_after
from hubdpo.loopback.faults import Fault, Faults

if TYPE_CHECKING:
    from tests.conftest import Hub


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


@pytest.mark.parametrize(
    ("address", "attempts"),
    [("http://localhost:9", 3), ("http://[::1]:9", 3), ("http://127.0.0.1:9", 3), ("https://hub.example", 8)],
)
def test_an_address_of_this_machine_where_no_server_runs_is_left_within_a_second(
    address: str, attempts: int, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", address)
    call = Call(http().ConnectError("[Errno 111] Connection refused"))
    monkeypatch.setattr(failures, "REFUSED", re.compile(r"\[Errno 111\]"))
    with pytest.raises(http().ConnectError):
        repeat(call)
    assert (call.made, len(pauses)) == (attempts, attempts - 1)


@pytest.mark.parametrize(("name", "attempts"), [("EAI_NONAME", 3), ("EAI_AGAIN", 8)])
def test_a_host_whose_name_leads_nowhere_is_left_within_a_second(
    name: str, attempts: int, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "https://hub.example")
    call = Call(http().ConnectError(f"[Errno {getattr(socket, name)}] Name or service not known"))
    with pytest.raises(HubError, match="no answer") as said, translate_errors("me/x"):
        repeat(call)
    assert call.made == attempts
    assert ("there is no host `hub.example`" in said.value.message) == (attempts == 3)
    assert said.value.hint is not None
    assert said.value.hint.startswith("unset HF_ENDPOINT, then") == (attempts == 3)


def test_where_no_server_runs_the_hint_starts_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "pause", lambda seconds: None)
    with socket.socket() as taken:  # bound, but nothing listens
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{port}")
        with (
            pytest.raises(
                HubError, match="no answer for `me/x`: no server runs at .*, where HF_ENDPOINT points"
            ) as said,
            translate_errors("me/x"),
        ):
            repeat(lambda: api().model_info("me/x"))
    assert said.value.hint == f"hubdpo serve-hub hub --port {port}"


@pytest.mark.parametrize(("cached", "attempts"), [(False, 3), (True, 1)])
def test_one_timeout_is_enough_where_the_cache_can_answer(cached: bool, attempts: int, pauses: list[float]) -> None:
    call = Call(http().ReadTimeout("a minute"))
    with pytest.raises(http().ReadTimeout):
        repeat(call, cached=cached)
    assert (call.made, len(pauses)) == (attempts, attempts - 1)


@pytest.mark.parametrize(
    ("seconds", "attempts"),
    [([20.0] * 8, 3), ([1.0] * 8, 8), ([1.0, 20.0, 1.0, 20.0, 20.0], 5), ([20.0] + [1.0] * 7, 8)],
)
def test_three_attempts_that_take_long_are_enough(
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
    said = f"{hub_address()} cannot be reached (nobody listens); trying again now (attempt 2 of 8)\n"
    assert (said in capsys.readouterr().err) is (seconds[0] == 20)


def test_a_pause_of_more_than_two_seconds_is_told_with_its_reason(
    pauses: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    assert repeat(Call(ConnectionResetError("the line was cut"), failures=5)) == "answer"
    assert pauses == [0.25, 0.5, 1.0, 2.0, 4.0]
    assert capsys.readouterr().err == (
        f"{hub_address()} cannot be reached (the line was cut); trying again in 4 s (attempt 6 of 8)\n"
    )


def answered(status: int, headers: dict[str, str] | None = None) -> HfHubHTTPError:
    response = http().Response(status, headers=headers, request=http().Request("GET", "http://127.0.0.1/x"))
    with pytest.raises(HfHubHTTPError) as caught:
        hf_raise_for_status(response)
    return caught.value


def test_a_status_is_told_in_two_words(pauses: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    assert repeat(Call(answered(503), failures=5)) == "answer"
    assert capsys.readouterr().err == f"{hub_address()} answered 503; trying again in 4 s (attempt 6 of 8)\n"


@pytest.mark.parametrize(
    ("seconds", "made"), [("55", [55, 55]), ("310", [310, 310]), ("311", []), ("3000", []), ("3", [3] * 7)]
)
def test_long_pauses_that_the_hub_asks_for_are_few(
    seconds: str, made: list[float], pauses: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(HfHubHTTPError):
        repeat(Call(answered(429, {"Retry-After": seconds})))
    assert pauses == made
    said = capsys.readouterr().err.splitlines()
    assert len(said) == len(made)
    assert not said or f"asks for a pause, so trying again in {seconds} s (attempt 2 of {len(made) + 1})" in said[0]


def test_no_pause_is_made_where_the_cache_can_answer(pauses: list[float]) -> None:
    with pytest.raises(HfHubHTTPError):
        repeat(Call(answered(429, {"Retry-After": "55"})), cached=True)
    assert not pauses


def test_a_pause_that_is_too_long_is_told_with_its_end(repo_id: str, faults: Faults, pauses: list[float]) -> None:
    faults.add(Fault("status", "", status=429, headers={"RateLimit": '"api";r=0;t=3000'}, times=1_000))
    with pytest.raises(HubError, match=f"too many requests for `{repo_id}`: it asks to wait 51 minutes") as caught:
        resolve(repo_id)
    assert caught.value.hint == "in 51 minutes, run the same command again"
    assert not pauses


@pytest.mark.parametrize("path", ["/tree/", "/api/"])
def test_the_client_makes_no_attempts_and_no_pauses_of_its_own(
    path: str, repo_id: str, faults: Faults, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A list of files it would ask for six times, and wait as long as the Hub asks."""
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: pytest.fail("it waits in silence"))
    HfApi().create_repo(repo_id)
    sha = resolve(repo_id)
    for fault in (
        Fault("status", path, status=503, times=2),
        Fault("status", path, status=429, headers={"Retry-After": "55"}, times=2),
        Fault("reset-before", path, times=2),
    ):
        faults.add(fault)
        assert RepoSnapshot(repo_id, "model", sha, fresh=True).files
        assert not fault.times
    assert pauses == [0.25, 0.5, 55, 55, 0.25, 0.5]


def test_a_read_waits_less_long_for_its_answer_than_a_commit(
    repo_id: str, hub: Hub, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "GET_S", 0.2)
    HfApi().create_repo(repo_id)
    hub.server.faults.add(Fault("sleep", "", seconds=0.5, times=1_000))
    try:
        HfApi().create_tag(repo_id, tag="v1")
        with pytest.raises(HubError, match="no answer from http"):
            resolve(repo_id)
    finally:
        hub.server.faults.clear()
    assert len(pauses) == 2


def test_a_users_own_request_gets_its_answer(repo_id: str, faults: Faults) -> None:
    transport.api()  # makes the client that all of the process share
    faults.add(Fault("status", "/api/", status=429, headers={"Retry-After": "3600"}))
    assert get_session().get(f"{hub_address()}/api/models/{repo_id}").status_code == 429


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


@pytest.mark.parametrize("path", ["/tag/", "/commit/", "/preupload/"])
def test_a_rate_limit_is_waited_for(
    path: str, data: Path, repo_id: str, faults: Faults, pauses: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    faults.add(Fault("status", path, "POST", status=429, headers={"RateLimit": '"api";r=0;t=55'}))
    push(folder=data, repo=repo_id, version="1.0.0")
    assert pauses == [56.0]
    assert "asks for a pause, so trying again in 56 s (attempt 2 of 3)" in capsys.readouterr().err


@pytest.mark.parametrize("path", ["/tag/", "/commit/", "/preupload/", "/_lfs|/info/lfs"])
def test_a_pause_that_is_too_long_ends_a_push_at_once(
    path: str, data: Path, repo_id: str, faults: Faults, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: pytest.fail("it waits in silence"))
    faults.add(Fault("status", path, status=429, headers={"Retry-After": "3600"}, times=1_000))
    with pytest.raises(HubError, match="asks to wait 60 minutes"):
        push(folder=data, repo=repo_id, version="1.0.0", check="hashes")
    assert not pauses
