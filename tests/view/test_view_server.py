"""The server of the pages: for reading, for this machine, and with nothing that a browser would run."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hubdpo import view
from hubdpo.errors import ArtefactError, ConfigError
from hubdpo.loopback.http.wire import Answer
from hubdpo.view.open import open_thing
from hubdpo.view.server import ViewServer
from tests.view.ask import served
from tests.view.made_datasets import made_up, thing_of, write_dataset

VIEW = Path(view.__file__ or "").parent


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("server") / "d", {"train": made_up(30)})


@pytest.fixture(scope="module")
def port(folder: Path) -> Iterator[int]:
    with served(thing_of(folder)) as address:
        yield int(address.rpartition(":")[2])


def send(port: int, method: str, path: str, **headers: str) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    with contextlib.closing(connection):
        connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return Answer(answer.status, dict(answer.headers), answer.read())


@pytest.mark.parametrize("path", ["/", "/-/view.css", "/-/view.js", "/-/icon.svg", "/nothing", "/numbers", "/-/other"])
def test_no_answer_lets_a_browser_load_from_elsewhere_or_run_what_it_shows(port: int, path: str) -> None:
    answer = send(port, "GET", path)
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.status == (404 if path in ("/nothing", "/-/other") else 200)
    assert answer.headers["Content-Type"].partition(";")[0] in (
        "text/html", "text/css", "text/javascript", "image/svg+xml", "application/json",
    )  # fmt: skip


def test_no_template_has_a_script_or_a_style_of_its_own() -> None:
    for path in (VIEW / "templates").glob("*.html"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"<script(?! src=)|<style|\sstyle=|\son\w+=|javascript:|\|\s*safe", text), path
        assert not re.search(r"(src|href)=\"(https?:)?//", text), path


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_no_request_changes_anything(port: int, folder: Path, method: str) -> None:
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert send(port, method, "/viewer", Content_Length="0").status == 405
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_head_has_the_headers_of_get(port: int) -> None:
    head, get = send(port, "HEAD", "/"), send(port, "GET", "/")
    assert head.headers["Content-Length"] == get.headers["Content-Length"] and head.content == b""


@pytest.mark.parametrize("host", ["example.org", "127.0.0.1", "localhost:1", "127.0.0.1.example.org"])
def test_another_host_is_refused(port: int, host: str) -> None:
    assert send(port, "GET", "/", Host=host).status == 421


@pytest.mark.parametrize("origin", ["http://example.org", "null", "http://127.0.0.1:1", "https://127.0.0.1:PORT"])
def test_scripts_of_another_site_are_refused(port: int, origin: str) -> None:
    assert send(port, "GET", "/", Origin=origin.replace("PORT", str(port))).status == 403
    assert send(port, "GET", "/", Origin=f"http://127.0.0.1:{port}").status == 200


@pytest.mark.parametrize("path", ["/../pyproject.toml", "/-/../view.css", "/-/%2e%2e%2fserver.py", "/-//etc/passwd"])
def test_paths_stay_inside(port: int, path: str) -> None:
    answer = send(port, "GET", path)
    assert answer.status == 404 and b"root:" not in answer.content


def test_a_bug_is_a_500_with_its_traceback_on_stderr(
    port: int, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    thing = thing_of(folder)
    thing.keep("table", lambda: None)
    with served(thing) as address:
        answer = send(int(address.rpartition(":")[2]), "GET", "/viewer")
    assert answer.status == 500
    assert "AttributeError" in capsys.readouterr().err


def test_a_port_that_is_taken_is_told(port: int, folder: Path) -> None:
    with pytest.raises(ConfigError, match=f"port {port} cannot be used"):
        ViewServer(thing_of(folder), port=port)


def test_what_cannot_be_opened_is_told(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(ArtefactError, match="folder not found|no folder"):
        open_thing([str(tmp_path / "gone")])
    (tmp_path / "raw.jsonl").write_text("{}")
    with pytest.raises(ArtefactError, match="is a file") as refused:
        open_thing([str(tmp_path / "raw.jsonl")])
    assert str(refused.value.hint).startswith("hubdpo prepare ")
    with pytest.raises(ArtefactError, match="is no dataset, run or merged model"):
        open_thing([str(tmp_path)])
    with pytest.raises(ConfigError, match="only runs are drawn over each other"):
        open_thing([str(folder), str(folder)])


@pytest.mark.slow
def test_the_command_says_where_it_serves_and_stops_on_a_signal(folder: Path) -> None:
    command = [sys.executable, "-m", "hubdpo", "view", str(folder), "--no-open"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ})
    assert process.stdout is not None
    address = process.stdout.readline().strip()
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", address)
    assert send(int(address.rstrip("/").rpartition(":")[2]), "GET", "/viewer?row=3").status == 200
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0 and said.endswith("stopped\n") and "Traceback" not in said


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_ends_quietly_while_rows_are_read(tmp_path: Path, number: int) -> None:
    rows = made_up(500) * 100
    folder = write_dataset(tmp_path / "d", {"train": rows}, rows_per_group=500, rows_per_shard=len(rows))
    command = [sys.executable, "-m", "hubdpo", "view", str(folder), "--no-open"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    port = int(process.stdout.readline().strip().rstrip("/").rpartition(":")[2])
    assert send(port, "GET", "/").status == 200
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0 and "Fatal" not in said and said.endswith("stopped\n")
