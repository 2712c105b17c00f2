"""Push on a machine that takes no more files: what is published is said to be, and what is not ends in one line."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub import HfApi
from typer.testing import Result

from hubdpo.release import push
from tests.release.made import made_base, made_run

Cli = Callable[..., Result]


def refuse(number: int) -> Callable[..., None]:
    def write(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    return write


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.ENOSPC, errno.EDQUOT], ids=os.strerror)
def test_a_folder_that_takes_no_receipt_is_published_all_the_same(
    other: Path, repo_id: str, run_cli: Cli, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    card = (other / "README.md").read_bytes()
    monkeypatch.setattr(push, "write_atomic", refuse(number))
    done = run_cli("push", str(other), repo_id, "--version", "1.0.0")
    assert done.exit_code == 0
    assert f"{repo_id}/tree/v1.0.0" in done.stdout
    (warning,) = [line for line in done.stderr.splitlines() if line.startswith("warning:")]
    assert f"{repo_id} v1.0.0 is released, but its receipt" in warning and os.strerror(number) in warning
    assert HfApi().list_repo_refs(repo_id, repo_type="dataset").tags[0].name == "v1.0.0"
    assert not (other / "release.json").exists() and (other / "README.md").read_bytes() == card
    monkeypatch.undo()
    assert run_cli("push", str(other), repo_id, "--version", "1.0.0").exit_code == 0
    assert (other / "release.json").exists()


def test_a_disk_that_takes_no_download_ends_the_push_at_once_and_makes_no_release(tmp_path: Path, repo_id: str) -> None:
    folder = made_run(tmp_path / "run", made_base(f"{repo_id}-base"), megabytes=1)

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))  # of the weights, 1 MB, no copy can be made

    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "hubdpo", "push", str(folder), repo_id, "--version", "1.0.0", "--check", "hashes"],
        capture_output=True, text=True, preexec_fn=limit, env={**os.environ, "TMPDIR": str(tmp_path)}, timeout=120,
    )  # fmt: skip
    assert done.returncode == 9, done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1 and "Traceback" not in done.stderr
    assert "whether" not in done.stderr, "a full disk is no unknown outcome"
    assert time.monotonic() - begun < 60
    assert not HfApi().list_repo_refs(repo_id).tags
    assert not list(tmp_path.glob("hubdpo-*"))
