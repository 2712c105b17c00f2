"""The script for HF Jobs: its header, its refusals, and the whole of it against the loopback Hub."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from huggingface_hub import HfApi
from huggingface_hub.cli._uv_script_header import parse_uv_script_header

from hubdpo import push

if TYPE_CHECKING:
    from tests.conftest import Hub

SCRIPT = Path(__file__).parents[2] / "hubdpo" / "training" / "launch" / "hf_job.py"


def run(*words: str, **variables: str | None) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in {**os.environ, **variables}.items() if value is not None}
    return subprocess.run([sys.executable, str(SCRIPT), *words], capture_output=True, text=True, env=environment)


def test_its_header_says_what_the_job_needs() -> None:
    text = SCRIPT.read_text(encoding="utf-8")
    header = parse_uv_script_header(text)
    assert header is not None
    assert (header.secrets, header.flavor, header.timeout) == (["HF_TOKEN"], "l40sx1", "12h")
    # `--with` says where hubdpo is: its bare name may be that of somebody else's package on an index
    assert re.search(r"^# dependencies = \[\]$", text, re.MULTILINE)


def test_a_job_without_hubdpo_ends_with_the_option_that_it_lacks(tmp_path: Path) -> None:
    command = [sys.executable, "-S", "-P", str(SCRIPT), "--push-to", "alice/x"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env={"PATH": ""})
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "error: the job has no hubdpo", 'hint: hf jobs uv run --with "hubdpo @ ADDRESS" hf_job.py ...',
    ]  # fmt: skip


@pytest.mark.parametrize(("token", "message"), [(None, "no HF_TOKEN"), ("read", "may only read"), ("no", "refuses")])
def test_a_token_that_cannot_publish_stops_the_job_before_it_trains(
    hub: Hub, tmp_path: Path, token: str | None, message: str
) -> None:
    chosen = hub.read_token if token == "read" else token
    done = run("--push-to", "alice/x", "-o", str(tmp_path / "run"), HF_TOKEN=chosen)
    assert (done.returncode, done.stderr.startswith("error: ")) == (4, True)
    assert message in done.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_it_trains_from_the_hub_and_publishes(
    hub: Hub, repo_id: str, tiny_base_repo: str, dataset_dir: Path, tmp_path: Path
) -> None:
    push(folder=dataset_dir, repo=f"{repo_id}-data", version="1.0.0")
    done = run(
        "--push-to", repo_id, "--version", "1.2.0", "--private", "-o", str(tmp_path / "run"),
        f"--model-name-or-path={tiny_base_repo}", "--dataset", f"{repo_id}-data@v1.0.0", "--max-steps", "1",
        "--max-length=128", "--learning-rate", "1e-3", "--per-device-train-batch-size", "2",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    files = HfApi().list_repo_files(repo_id, revision="v1.2.0")
    assert {"adapter_model.safetensors", "README.md", "run.json"} <= set(files)
    assert HfApi().model_info(repo_id).private


def test_a_training_that_fails_publishes_nothing(repo_id: str, tmp_path: Path) -> None:
    done = run("--push-to", repo_id, "-o", str(tmp_path / "run"), "--model-name-or-path", "a/b", "--no-such-option")
    assert done.returncode == 2
    assert not HfApi().repo_exists(repo_id)
