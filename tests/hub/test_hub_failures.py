"""Whatever the Hub, its client or the network raises is one line with a hint; a bug of ours keeps its traceback."""

from __future__ import annotations

import errno
import importlib
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from huggingface_hub import constants, errors

from hubdpo.errors import HubError, MachineError
from hubdpo.hub import failures
from hubdpo.hub.failures import OUR_MISTAKES, as_hub_error, is_unknown_outcome, translate_errors
from hubdpo.hub.transport import http
from hubdpo.loopback.faults import Fault, Faults

if TYPE_CHECKING:
    from typer.testing import Result

STATUSES = [400, 401, 402, 403, 404, 405, 408, 409, 410, 412, 413, 416, 418, 422, 429, 500, 501, 502, 503, 504, 520]
WHAT = "alice/x"


def classes_in(module: Any, of: tuple[str, ...]) -> Iterator[type[Exception]]:
    for _, kind in inspect.getmembers(module, inspect.isclass):
        if issubclass(kind, Exception) and not issubclass(kind, Warning) and kind.__module__.startswith(of):
            yield kind


def made(kind: type[Exception]) -> Exception:
    """An error of a class, whatever it is built from, that says two lines; with an answer where it comes of one."""
    problem = kind.__new__(kind, "first\nsecond")
    problem.args = ("first\nsecond",)
    if issubclass(kind, errors.HfHubHTTPError):
        problem.response = http().Response(418, request=http().Request("GET", "http://127.0.0.1/x"))  # type: ignore[attr-defined]
    return problem


def others() -> Iterator[type[Exception]]:
    """What the HTTP libraries raise, of those that are here: huggingface_hub's own, and requests', which others use."""
    for name in ("httpx", "httpx2", "requests.exceptions"):
        try:
            yield from classes_in(importlib.import_module(name), ("httpx", "httpx2", "requests"))
        except ModuleNotFoundError:
            continue


HUB_ERRORS = sorted(set(classes_in(errors, ("huggingface_hub",))), key=lambda kind: kind.__name__)
HTTP_ERRORS = sorted(set(others()), key=lambda kind: f"{kind.__module__}{kind.__name__}")


def is_our_mistake(kind: type) -> bool:
    return bool(OUR_MISTAKES & {one.__name__ for one in kind.__mro__})


@pytest.mark.parametrize("kind", [*HUB_ERRORS, *HTTP_ERRORS], ids=lambda kind: f"{kind.__module__}.{kind.__name__}")
def test_every_error_is_one_line_with_a_hint_or_a_bug(kind: type[Exception]) -> None:
    told = as_hub_error(WHAT, made(kind))
    if is_our_mistake(kind):
        assert told is None
        return
    assert told is not None
    assert told.exit_code == 4
    assert told.message
    assert "\n" not in told.message
    assert told.hint
    assert "Traceback" not in told.message


def test_the_errors_of_the_client_are_looked_at() -> None:
    """Fewer would mean that this test no longer sees them."""
    assert len(HUB_ERRORS) > 40
    assert {"LocalTokenNotFoundError", "RevisionResolutionError"} <= {kind.__name__ for kind in HUB_ERRORS}
    assert sum(map(is_our_mistake, HUB_ERRORS)) < len(HUB_ERRORS) / 2


@pytest.mark.parametrize("status", STATUSES)
def test_every_status_is_one_line_with_a_hint(status: int) -> None:
    request = http().Request("GET", "http://127.0.0.1/x")
    problem = errors.HfHubHTTPError("why\nnot", response=http().Response(status, request=request))
    told = as_hub_error(WHAT, problem)
    assert told is not None
    assert told.hint
    assert "\n" not in told.message
    assert str(status) in told.message or status in (401, 403)


@pytest.mark.parametrize(
    ("problem", "word"),
    [
        (errors.LocalTokenNotFoundError("Token is required"), "not logged in"),
        (errors.DeviceCodeError("Failed to refresh access token"), "not logged in"),
        (errors.OfflineModeIsEnabled("Cannot reach"), "offline mode is on"),
        (errors.LocalEntryNotFoundError("x"), "cannot be downloaded"),
        (errors.EntryNotFoundError("no a.json"), "lacks a file: no a.json"),
        (errors.HFValidationError("Repo id must use"), "no name on the Hub"),
        (ConnectionError("cas broke"), "large files"),
        (TimeoutError(), "no answer"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_the_line_says_what_it_is(problem: Exception, word: str) -> None:
    with pytest.raises(HubError, match=word), translate_errors(WHAT):
        raise problem


def test_a_file_that_could_not_be_downloaded_is_told_with_its_cause() -> None:
    with pytest.raises(HubError, match="cannot be downloaded from .*: ConnectError") as caught, translate_errors(WHAT):
        raise errors.LocalEntryNotFoundError("x") from http().ConnectError("refused")
    assert "HF_ENDPOINT" in str(caught.value.hint)


def test_a_file_that_could_not_be_sent_is_told_by_its_cause() -> None:
    problem = RuntimeError("Error while uploading")
    problem.__cause__ = ConnectionError("cas broke")
    with pytest.raises(HubError, match="cas broke"), translate_errors(WHAT):
        raise problem


@pytest.mark.parametrize(
    "problem",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        PermissionError(errno.EACCES, "Permission denied", "/cache/x"),
        RuntimeError("Data processing error: I/O error: No space left on device (os error 28)"),
    ],
    ids=["a full disk", "no right", "a full disk by Xet"],
)
def test_what_this_machine_refuses_is_no_answer_of_the_hub(problem: Exception) -> None:
    with pytest.raises(MachineError, match=WHAT), translate_errors(WHAT):
        raise problem
    assert not is_unknown_outcome(problem)


def answered(status: int, words: str) -> Exception:
    request = http().Request("POST", "http://127.0.0.1/x")
    return errors.HfHubHTTPError(words, response=http().Response(status, request=request), server_message=words)


def sent_on(problem: Exception) -> Exception:
    around = RuntimeError(f"Error while uploading 'a': {problem}")
    around.__cause__ = problem
    return around


BY_XET = "Network error: Request error: HTTP status {} error ({}), domain: http://127.0.0.1/_xet/v1/xorbs/default/0a"


@pytest.mark.parametrize(
    "problem",
    [
        answered(507, "the disk of this Hub cannot store it: No space left on device"),
        answered(507, "Insufficient Storage"),
        answered(500, "OSError: [Errno 28] No space left on device"),
        answered(500, "attempt to write a readonly database"),
        answered(503, "disk I/O error"),
        answered(500, "database or disk is full"),
        sent_on(answered(507, "No space left on device (os error 28)")),
        ConnectionError(BY_XET.format("server", "507 Insufficient Storage")),
        ConnectionError(BY_XET.format("client", "413 the disk of this Hub has room for 0 bytes (all kept), not for 9")),
        sent_on(ConnectionError(BY_XET.format("client", "413 No space left on device"))),
        ValueError("LFS batch API returned errors:\nError for LFS file 'a': No space left on device (507)"),
    ],
    ids=lambda problem: f"{type(problem).__name__} {str(problem)[-60:]}",
)
def test_a_full_disk_of_the_hub_is_not_one_of_this_machine(problem: Exception) -> None:
    said = f"{constants.ENDPOINT} has no room for `{WHAT}`"
    with pytest.raises(HubError, match=said) as caught, translate_errors(WHAT):
        raise problem
    assert caught.value.hint and "disk of that Hub" in caught.value.hint and "TMPDIR" not in caught.value.hint
    assert "domain:" not in caught.value.message


@pytest.mark.parametrize("words", ["CUDA out of memory", "can't start new thread", "[Errno 12] Cannot allocate memory"])
def test_whatever_else_the_hub_says_is_not_of_this_machine(words: str) -> None:
    told = as_hub_error(WHAT, answered(500, words))
    assert isinstance(told, HubError) and words in told.message and told.hint == "try again later"


def test_a_disk_that_fills_after_an_answer_is_the_one_of_this_machine() -> None:
    problem = OSError(errno.ENOSPC, "No space left on device")
    problem.__context__ = answered(507, "No space left on device")
    assert isinstance(as_hub_error(WHAT, problem), MachineError)


@pytest.mark.parametrize(("status", "unknown"), [(403, False), (413, False), (503, True)])
def test_an_answer_by_xet_is_known_by_its_status(status: int, unknown: bool) -> None:
    assert (
        is_unknown_outcome(ConnectionError(BY_XET.format("x", f"{status} Some Words").replace(" x ", " client ")))
        is unknown
    )


@pytest.mark.parametrize("problem", [KeyError("x"), RuntimeError("x"), FileNotFoundError(2, "no", "x"), TypeError("x")])
def test_a_bug_keeps_its_traceback(problem: Exception) -> None:
    with pytest.raises(type(problem)), translate_errors(WHAT):
        raise problem


def caused(problem: Exception, cause: Exception) -> Exception:
    problem.__cause__ = cause
    return problem


@pytest.mark.parametrize(
    ("problem", "unknown"),
    [
        (errors.OfflineModeIsEnabled("x"), False),
        (errors.LocalTokenNotFoundError("x"), False),
        (OSError(errno.ENOSPC, "full"), False),
        (PermissionError(errno.EACCES, "no"), False),
        (ConnectionResetError(), True),
        (TimeoutError(), True),
        (errors.LocalEntryNotFoundError("the cache alone was asked"), False),
        (caused(errors.LocalEntryNotFoundError("x"), ConnectionResetError()), True),
        (caused(errors.LocalEntryNotFoundError("x"), PermissionError(errno.EACCES, "no")), False),
    ],
    ids=repr,
)
def test_only_what_may_have_happened_is_tried_again(problem: Exception, unknown: bool) -> None:
    assert is_unknown_outcome(problem) is unknown


@pytest.fixture
def logged_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))


@pytest.mark.usefixtures("logged_out")
@pytest.mark.parametrize("extra", [(), ("--dry-run",), ("--create-pr",), ("--collection", "alice/picks")])
def test_push_without_a_login_says_so_in_one_line(
    data: Path, repo_id: str, run_cli: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, extra: tuple[str, ...]
) -> None:
    from hubdpo.hub import retry

    def pause(seconds: float) -> None:
        raise AssertionError("there is nothing to wait for")

    monkeypatch.setattr(retry, "pause", pause)
    done = run_cli("push", str(data), repo_id, "--version", "1.0.0", *extra)
    said = done.stderr.strip().splitlines()[-2:]
    assert done.exit_code == 4
    assert said[0].startswith("error: you are not logged in to http")
    assert said[1] == "hint: hf auth login"


@pytest.mark.usefixtures("logged_out")
def test_doctor_says_who_is_not_logged_in(run_cli: Callable[..., Result]) -> None:
    done = run_cli("doctor")
    assert done.exit_code == 0, done.stderr
    assert "not logged in" in done.stderr


def test_doctor_says_that_no_answer_came(run_cli: Callable[..., Result], faults: Faults) -> None:
    faults.add(Fault("reset-before", "whoami"))
    done = run_cli("doctor")
    assert done.exit_code == 0, done.stderr
    said = f"warning: your login is unknown: no answer from {constants.ENDPOINT} (RemoteProtocolError)\n"
    assert said in done.stderr and "hint: " in done.stderr
    (row,) = [line for line in done.stdout.splitlines() + done.stderr.splitlines() if line.startswith("login ")]
    assert row.split() == ["login", "unknown"]


def test_the_hub_is_named_as_it_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "https://hub.example.com")
    told = failures.as_hub_error(WHAT, errors.LocalTokenNotFoundError("x"))
    assert told is not None
    assert "https://hub.example.com" in told.message
