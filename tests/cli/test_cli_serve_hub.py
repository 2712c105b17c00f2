"""`serve-hub` announces itself once, keeps what it was given, and stops when told."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

from huggingface_hub import HfApi


def start(folder: Path) -> tuple[subprocess.Popen[str], str]:
    command = [sys.executable, "-c", "from hubdpo.cli.app import main; main()", "serve-hub", str(folder)]
    server = subprocess.Popen(
        [*command, "--token", "carol:hf_carol"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
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
