"""A user's mistake gets one clear line, a hint, the right exit code, and nothing is written."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROWS = b'{"prompt": "p%d", "chosen": "good", "rejected": "bad"}\n'


def hubdpo(*arguments: object, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from hubdpo.cli.app import main; main()", *map(str, arguments)]
    return subprocess.run(
        command, cwd=cwd, env={**os.environ, **env}, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )


def assert_refused(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert "error: " in done.stderr
    assert "hint: " in done.stderr
    for word in words:
        assert word in done.stderr
    assert done.stdout == ""


@pytest.fixture
def work(tmp_path: Path) -> Path:
    (tmp_path / "good.jsonl").write_bytes(b"".join(ROWS % i for i in range(20)))
    (tmp_path / "empty.jsonl").write_bytes(b"")
    (tmp_path / "binary.jsonl").write_bytes(bytes(range(256)) * 64)
    (tmp_path / "odd.jsonl").write_bytes(b'{"left": 1, "right": 2}\n' * 5)
    (tmp_path / "broken.jsonl.gz").write_bytes(gzip.compress(b"x" * 1000)[:20])
    (tmp_path / "movie.mp4").write_bytes(b"\0\0\0\x18ftyp")
    (tmp_path / "typo.yaml").write_text("test_sise: 0.1\n")
    return tmp_path


@pytest.mark.parametrize("repo", ["d", "hf_" + "QwErTyUiOpAsDfGhJkLzXcVbNmQwErTyUi"], ids=["no repo", "a credential"])
def test_an_argument_is_named_as_it_stands_in_the_usage(work: Path, repo: str) -> None:
    done = hubdpo("push", "data", repo, "--version", "1.0.0", cwd=work)
    assert_refused(done, 2, "`USER/NAME` ")
    assert "--repo" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["missing.jsonl"], 3, ["missing.jsonl"]),
        (["empty.jsonl"], 3, ["empty.jsonl"]),
        (["binary.jsonl"], 3, ["binary.jsonl"]),
        (["odd.jsonl"], 3, ["left"]),
        (["broken.jsonl.gz"], 3, ["broken.jsonl.gz"]),
        (["movie.mp4"], 3, ["movie.mp4"]),
        (["good.jsonl", "--converter", "hh-rlfh"], 2, ["hh-rlfh", "hh-rlhf"]),
        (["good.jsonl", "--config", "typo.yaml"], 2, ["test_sise", "test_size"]),
        (["good.jsonl", "--config", "none.yaml"], 2, ["none.yaml"]),
        (["good.jsonl", "--test-size", "1.5"], 2, ["--test-size"]),
        (["good.jsonl", "--converter", "columns", "--map", "prompt=nope,chosen=chosen,rejected=rejected"], 3, ["nope"]),
    ],
)
def test_prepare_refuses(work: Path, arguments: list[str], code: int, words: list[str]) -> None:
    before = sorted(work.rglob("*"))
    assert_refused(hubdpo("prepare", *arguments, "-o", "out", cwd=work), code, *words)
    assert sorted(work.rglob("*")) == before


def test_an_output_folder_whose_name_is_not_utf8_is_refused(work: Path) -> None:
    done = hubdpo("prepare", "good.jsonl", "-o", os.fsdecode(b"caf\xe9"), cwd=work)
    assert_refused(done, 2, "`--output-dir` is not UTF-8")


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs a folder that takes no other")
def test_a_place_that_takes_no_folder_is_refused(work: Path) -> None:
    assert_refused(hubdpo("prepare", "good.jsonl", "-o", "/proc/x", cwd=work), 2, "no folder can be made in `/proc`")


def test_prepare_without_an_output_folder_is_refused(work: Path) -> None:
    assert_refused(hubdpo("prepare", "good.jsonl", cwd=work), 2, "--output-dir")


def test_train_refuses_a_base_of_a_kind_that_it_does_not_train(work: Path, dataset_dir: Path) -> None:
    base = work / "t5"
    base.mkdir()
    (base / "config.json").write_text(json.dumps({"model_type": "t5", "architectures": ["T5ForConditionalGeneration"]}))
    done = hubdpo("train", "--model-name-or-path", base, "--dataset", dataset_dir, "-o", "run", cwd=work)
    assert_refused(done, 2, "t5", "Qwen2")
    assert not (work / "run").exists()


def test_train_refuses_a_base_that_is_not_there(work: Path, dataset_dir: Path) -> None:
    done = hubdpo("train", "--model-name-or-path", "alice/nothing", "--dataset", dataset_dir, "-o", "run", cwd=work)
    assert_refused(done, 4, "alice/nothing")
    assert not (work / "run").exists()


def test_train_refuses_a_dataset_folder_that_was_edited(work: Path, tiny_base: Path) -> None:
    assert hubdpo("prepare", "good.jsonl", "-o", "data", cwd=work).returncode == 0
    with (work / "data" / "README.md").open("a") as card:
        card.write("by hand\n")
    done = hubdpo("train", "--model-name-or-path", tiny_base, "--dataset", "data", "-o", "run", cwd=work)
    assert_refused(done, 3, "README.md")
    assert not (work / "run").exists()


def test_push_refuses_a_folder_of_another_kind(work: Path) -> None:
    assert_refused(hubdpo("push", work, "alice/x", "--version", "0.1.0", cwd=work), 3)


def test_push_refuses_a_wrong_token(work: Path, dataset_dir: Path, repo_id: str) -> None:
    done = hubdpo("push", dataset_dir, repo_id, "--version", "0.1.0", cwd=work, HF_TOKEN="hf_wrong_token")
    assert_refused(done, 4)
    assert "hf_wrong_token" not in done.stderr


def test_verify_names_a_repo_that_is_missing(work: Path, repo_id: str) -> None:
    assert_refused(hubdpo("verify", f"{repo_id}@v0.1.0", cwd=work), 4, repo_id)


def test_a_bug_keeps_its_traceback(work: Path) -> None:
    code = (
        "import hubdpo.cli.app as app, hubdpo.data.prepare.prepare as stage\n"
        "def broken(config): raise RuntimeError('a bug')\n"
        "stage.prepare = broken\n"
        "app.app(['prepare', 'good.jsonl', '-o', 'out'])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=work, capture_output=True, text=True)
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "a bug" in done.stderr


def test_push_of_a_file_is_told_which_way_round(work: Path) -> None:
    done = hubdpo("push", "good.jsonl", "me/data", "--version", "1.0.0", cwd=work)
    assert_refused(done, 3, "`good.jsonl` is a file", "hubdpo prepare good.jsonl -o data")
