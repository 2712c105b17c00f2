"""The access log has a line for each request, and no secret."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import HfApi

from hubdpo.errors import ConfigError
from hubdpo.loopback.http.access_log import AccessLog
from hubdpo.loopback.server import LoopbackHub
from tests.loopback.ask import Answered, ask
from tests.loopback.raw import talk

TOKEN = "hf_secret_of_carol"
LINE = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z) (\S+) (\S+) (\S+) (\d{3}) (\d+) (\d+) (\S+)\n")


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "access.log"


@pytest.fixture
def hub(tmp_path: Path, log: Path) -> Iterator[LoopbackHub]:
    writer = AccessLog(str(log))
    with LoopbackHub(tmp_path / "hub", tokens=[f"carol:{TOKEN}"], done=writer.write) as made:
        yield made


def lines(log: Path, count: int) -> list[re.Match[str]]:
    """Return all lines once there are so many: an answer is logged after it was sent."""
    until = time.monotonic() + 20
    while time.monotonic() < until and (not log.exists() or log.read_text().count("\n") < count):
        time.sleep(0.01)
    found = [LINE.fullmatch(line) for line in log.read_text().splitlines(keepends=True)]
    assert len(found) >= count and None not in found, log.read_text()
    return [match for match in found if match]


def line_of(log: Path, answer: Answered) -> re.Match[str]:
    """Return the only line with the id of an answer."""
    request_id = answer.headers["x-request-id"]
    until = time.monotonic() + 20
    while time.monotonic() < until and request_id not in log.read_text():
        time.sleep(0.01)
    (line,) = [match for match in lines(log, 1) if match[2] == request_id]
    return line


def test_a_request_is_a_line(hub: LoopbackHub, log: Path) -> None:
    answer = ask(hub, "GET", "/api/whoami-v2", token=TOKEN)
    assert line_of(log, answer).group(3, 4, 5, 6, 8) == (
        "GET", "/api/whoami-v2", "200", str(len(answer.body)), "carol"
    )  # fmt: skip


def test_a_request_without_a_token_has_no_user(hub: LoopbackHub, log: Path) -> None:
    ask(hub, "GET", "/api/models/carol/none")
    assert lines(log, 1)[0].group(5, 8) == ("401", "-")


@pytest.mark.parametrize(
    "path", ["/api/models/carol/r", "/carol/r/resolve/main/big.bin", "/nowhere", "/api/models/carol/none", "/_xet/v1/x"]
)
def test_every_answer_has_the_id_of_its_line(hub: LoopbackHub, log: Path, path: str) -> None:
    api = HfApi(hub.endpoint, token=TOKEN)
    api.create_repo("carol/r", private=True)
    api.upload_file(path_or_fileobj=b"\0" * 100, path_in_repo="big.bin", repo_id="carol/r")
    answer = ask(hub, "GET", path, token=TOKEN)
    assert line_of(log, answer)[4] == path


def test_neither_tokens_nor_signatures_are_logged(hub: LoopbackHub, log: Path) -> None:
    api = HfApi(hub.endpoint, token=TOKEN)
    api.create_repo("carol/r", private=True)
    content = b"\0" * 1000
    api.upload_file(path_or_fileobj=content, path_in_repo="big.bin", repo_id="carol/r")
    answer = ask(hub, "GET", "/carol/r/resolve/main/big.bin?token=hf_in_a_query", token=TOKEN)
    signed = answer.headers["location"].partition("//")[2].partition("/")[2]
    assert (answer := ask(hub, "GET", f"/{signed}")).body == content
    assert line_of(log, answer).group(4, 6, 8) == (f"/_cdn/{hashlib.sha256(content).hexdigest()}", "1000", "carol")
    assert not re.search("hf_|signature|Bearer", log.read_text())


def test_a_request_that_cannot_be_read_is_a_line(hub: LoopbackHub, log: Path) -> None:
    assert talk(hub.endpoint, "GET /\x1b[2J\x07 HTTP/1.1\r\nHOST\r\n\r\n").statuses == [400]
    assert lines(log, 1)[0].group(3, 4, 5, 8) == ("-", "-", "400", "-")


def test_a_client_that_was_turned_away_is_a_line(hub: LoopbackHub, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub._server.listener, "most", 0)
    answer = ask(hub, "GET", "/")
    assert answer.status == 503
    assert line_of(log, answer).group(3, 4, 5) == ("-", "-", "503")


def test_escaped_control_characters_stay_escaped(hub: LoopbackHub, log: Path) -> None:
    ask(hub, "GET", "/a%0Ab%1B%20c")
    assert lines(log, 1)[0][4] == "/a%0Ab%1B%20c"


def test_a_moved_log_is_followed_by_a_new_one(hub: LoopbackHub, log: Path) -> None:
    ask(hub, "GET", "/first")
    lines(log, 1)
    log.rename(log.with_suffix(".1"))
    ask(hub, "GET", "/second")
    assert lines(log, 1)[0][4] == "/second"
    assert "/first" in log.with_suffix(".1").read_text()


def test_only_its_user_reads_the_log(hub: LoopbackHub, log: Path) -> None:
    assert log.stat().st_mode & 0o777 == 0o600


def test_a_full_disk_stops_the_log_and_not_the_server(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    writer = AccessLog("/dev/full")
    with LoopbackHub(tmp_path / "hub", done=writer.write) as made:
        assert [ask(made, "GET", "/a").status for _ in range(3)] == [404] * 3
        until = time.monotonic() + 20
        while writer._lost < 3 and time.monotonic() < until:
            time.sleep(0.01)
        writer._path = tmp_path / "access.log"  # there is room again
        ask(made, "GET", "/last")
        assert lines(writer._path, 1)[0][4] == "/last"
    said = capsys.readouterr().err
    assert said.count("the access log cannot be written") == 1
    assert "3 requests are missing in it" in said


def test_a_log_that_cannot_be_opened_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none/x.log cannot be written: No such file"):
        AccessLog(str(tmp_path / "none" / "x.log"))


def test_a_dash_is_stderr(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    writer = AccessLog("-")
    with LoopbackHub(tmp_path / "hub", done=writer.write) as made:
        ask(made, "GET", "/a")
        until = time.monotonic() + 20
        said = ""
        while "\n" not in said and time.monotonic() < until:
            said += capfd.readouterr().err
    assert LINE.fullmatch(said)
