"""`serve-hub` announces itself once, keeps what it was given, and stops when told."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError


def start(folder: Path, *options: str) -> tuple[subprocess.Popen[str], str]:
    command = [sys.executable, "-c", "from hubdpo.cli.app import main; main()", "serve-hub", str(folder)]
    server = subprocess.Popen(
        [*command, "--token", "carol:hf_carol", *options], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        # as a shell starts what ends with `&`
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )  # fmt: skip
    assert server.stdout is not None
    return server, server.stdout.readline().strip()


def stop(server: subprocess.Popen[str]) -> int:
    os.kill(server.pid, signal.SIGTERM)
    server.communicate(timeout=20)
    return server.returncode


def test_the_first_line_is_the_endpoint(tmp_path: Path) -> None:
    server, line = start(tmp_path / "hub")
    try:
        assert re.fullmatch(r"HF_ENDPOINT=http://127\.0\.0\.1:\d+", line)
        assert HfApi(endpoint=line.partition("=")[2], token="hf_carol").whoami()["name"] == "carol"
    finally:
        assert stop(server) == 0


def test_repos_outlive_the_server(tmp_path: Path) -> None:
    for step in ("create", "look"):
        server, line = start(tmp_path / "hub")
        try:
            api = HfApi(endpoint=line.partition("=")[2], token="hf_carol")
            if step == "create":
                api.create_repo("carol/kept")
            assert api.repo_exists("carol/kept")
        finally:
            stop(server)


def ask(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from hubdpo.cli.app import main; main()", "serve-hub", str(folder), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=100)


def test_tokens_are_listed_and_revoked_while_the_server_runs(tmp_path: Path) -> None:
    server, line = start(tmp_path / "hub", "--token", "eve:hf_eve:read", "--org", "team:carol")
    try:
        api = HfApi(endpoint=line.partition("=")[2], token="hf_eve")
        assert api.whoami()["name"] == "eve"
        listed = ask(tmp_path / "hub", "--list-tokens")
        assert listed.stdout == "2 valid tokens of 2 users, 1 organisation\n" and "hf_" not in listed.stderr
        carol, eve = json.loads(ask(tmp_path / "hub", "--list-tokens", "--json").stdout)["tokens"]
        assert (carol["user"], carol["role"], carol["organisations"]) == ("carol", "write", ["team"])
        assert (eve["user"], eve["role"], eve["revoked"], carol["last_used"]) == ("eve", "read", None, None)
        assert eve["added"] and eve["last_used"]
        assert ask(tmp_path / "hub", "--revoke", eve["id"]).stdout == f"revoked 1 token: {eve['id']} of eve\n"
        with pytest.raises(HfHubHTTPError, match="Invalid user token"):
            api.whoami()
        again = ask(tmp_path / "hub", "--revoke", "eve")
        assert again.returncode == 2 and again.stderr.splitlines()[0] == "error: no valid token has the user or id eve"
        assert HfApi(endpoint=line.partition("=")[2], token="hf_carol").whoami()["name"] == "carol"
    finally:
        assert stop(server) == 0
    assert ask(tmp_path / "hub", "--list-tokens").stdout == "1 valid token of 2 users, 1 organisation\n"


def test_the_access_log_goes_where_it_was_told(tmp_path: Path) -> None:
    server, line = start(tmp_path / "hub", "--access-log", str(tmp_path / "access.log"))
    try:
        HfApi(endpoint=line.partition("=")[2], token="hf_carol").whoami()
    finally:
        stop(server)
    assert re.search(" GET /api/whoami-v2 200 [0-9]+ [0-9]+ carol\n", (tmp_path / "access.log").read_text())


def test_an_access_log_that_cannot_be_written_is_told_before_the_folder_is_made(tmp_path: Path) -> None:
    done = ask(tmp_path / "hub", "--access-log", str(tmp_path / "none" / "access.log"))
    assert done.returncode == 2
    assert "access.log cannot be written: No such file" in done.stderr
    assert not (tmp_path / "hub").exists()


@pytest.mark.parametrize("options", [["--access-log", "-"], ["--port", "8800"], ["--token", "a:b"], ["--org", "a:b"]])
def test_what_looks_after_the_folder_takes_no_options_of_a_server(tmp_path: Path, options: list[str]) -> None:
    done = ask(tmp_path / "hub", "--gc", *options)
    assert done.returncode == 2
    assert f"--gc serves nothing, so it takes no {options[0]}" in done.stderr
