"""A run folder belongs to one process at a time, from its first check to its end; a failed start leaves nothing."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hubdpo import evaluate, train
from hubdpo.artefacts.folders.journal import Journal
from hubdpo.artefacts.folders.run_folder import alone_in, is_worked_in
from hubdpo.artefacts.manifests.run import BaseRef, DatasetRef, RunManifest
from hubdpo.config import TrainConfig
from hubdpo.errors import ArtefactError, ConfigError
from hubdpo.training import start
from hubdpo.training.common import Common
from hubdpo.training.run.output_folder import check_output_folder, delete_partial_files, mark_complete
from hubdpo.training.run.record import published_config

OPTIONS: dict[str, Any] = {"model_name_or_path": "b", "dataset": "d"}


def run_in(folder: Path, status: str = "running") -> Path:
    config = TrainConfig.build({**OPTIONS, "output_dir": folder})
    RunManifest(
        hubdpo_version="0", status=status, config=published_config(config), base=BaseRef(name="b"), versions={},
        dataset=DatasetRef(name="d", fingerprint="f", train_pairs=8, test_pairs=0), device="cpu", seed=1,
    ).write(folder / "run.json")  # fmt: skip
    (folder / "checkpoint-2").mkdir()
    mark_complete(folder / "checkpoint-2", 2)
    return folder


WAYS: dict[str, Callable[[Path], object]] = {
    "train": lambda run: train(**OPTIONS, output_dir=run),
    "train --resume": lambda run: train(**OPTIONS, output_dir=run, resume=True),
    "train --extend": lambda run: train(**OPTIONS, output_dir=run, extend=True),
    "train in several processes": lambda run: train(**OPTIONS, output_dir=run, num_processes=2, resume=True),
    "evaluate": lambda run: evaluate(model=run),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("status", ["running", "complete"])
def test_a_second_process_in_a_run_folder_is_refused(tmp_path: Path, way: str, status: str) -> None:
    run = run_in(tmp_path, status)
    with alone_in(run), pytest.raises(ConfigError, match="another process works in") as caught:
        WAYS[way](run)
    assert caught.value.hint
    with alone_in(run):
        pass


def test_the_lock_holds_between_processes(tmp_path: Path) -> None:
    run = run_in(tmp_path)
    words = ["--model-name-or-path=b", "--dataset=me/d", f"--output-dir={run}", "--resume"]
    with alone_in(run):
        done = subprocess.run(
            [sys.executable, "-m", "hubdpo", "train", *words], capture_output=True, text=True, timeout=120
        )
    assert done.returncode == 2
    assert f"error: another process works in `{run}`\nhint: wait" in done.stderr


def test_a_run_that_ends_between_check_and_lock_is_not_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other_run_ends(config: TrainConfig) -> TrainConfig:
        run_in(config.output_dir, "complete")
        return config

    monkeypatch.setattr(start, "check_start", other_run_ends)
    with pytest.raises(ConfigError, match="a finished run"):
        train(**OPTIONS, output_dir=tmp_path / "run")


def test_a_new_folder_is_locked_before_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def work(config: TrainConfig, common: Common, journal: Journal) -> None:
        with alone_in(config.output_dir):
            pass

    monkeypatch.setattr(start, "check_start", lambda config: config)
    monkeypatch.setattr("hubdpo.training.train.train", work)
    with pytest.raises(ConfigError, match="another process works in"):
        train(**OPTIONS, output_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    train(**OPTIONS, output_dir=tmp_path / "run", dry_run=True)  # writes nothing there


def test_a_running_run_is_not_pushed(tmp_path: Path) -> None:
    from hubdpo import push

    with alone_in(run_in(tmp_path)), pytest.raises(ArtefactError, match="not finished"):
        push(folder=tmp_path, repo="alice/x", version="0.1.0")


def test_a_folder_replaced_while_it_is_locked_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = fcntl.flock

    def too_late(handle: int, operation: int) -> None:
        (tmp_path / "run").rmdir()
        (tmp_path / "run").mkdir()
        plain(handle, operation)

    monkeypatch.setattr(fcntl, "flock", too_late)
    with pytest.raises(ConfigError, match="another process"), alone_in(tmp_path / "run"):
        pass


def test_a_disk_without_locks_is_warned_of_and_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def none_here(handle: int, operation: int) -> None:
        raise OSError(errno.EBADF, "Bad file descriptor")

    monkeypatch.setattr(fcntl, "flock", none_here)
    with alone_in(tmp_path / "run"):
        pass
    assert "cannot be locked (Bad file descriptor)" in capsys.readouterr().err


def fail_in(folder: Path) -> None:
    with alone_in(folder):
        raise RuntimeError("no")


def test_a_failed_start_removes_the_folders_it_made(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError):
        fail_in(tmp_path / "a" / "b")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "make", [lambda place: None, lambda place: (place / "mine").write_text("")], ids=["empty", "full"]
)
def test_a_failed_start_keeps_what_was_there_before(tmp_path: Path, make: Callable[[Path], Any]) -> None:
    (tmp_path / "run").mkdir()
    make(tmp_path / "run")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(RuntimeError):
        fail_in(tmp_path / "run")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_with_only_scratch_files_is_free(tmp_path: Path) -> None:
    (tmp_path / ".run.json.0123abcd").write_text('{"schema')
    assert check_output_folder(TrainConfig.build({**OPTIONS, "output_dir": tmp_path})) is None
    delete_partial_files(tmp_path)
    assert not list(tmp_path.iterdir())


def test_only_partial_files_are_deleted(tmp_path: Path) -> None:
    run = run_in(tmp_path)
    (run / "checkpoint-3").mkdir()
    (run / ".adapter-x1").mkdir()
    (run / ".metrics.jsonl.0123abcd").write_text("")
    (run / ".mine").write_text("")
    delete_partial_files(run)
    assert sorted(path.name for path in run.iterdir()) == [".mine", "checkpoint-2", "run.json"]


def test_looking_whether_a_run_is_worked_in_neither_waits_nor_keeps_the_lock(tmp_path: Path) -> None:
    assert not is_worked_in(tmp_path)
    with alone_in(tmp_path):
        assert is_worked_in(tmp_path)
    assert not is_worked_in(tmp_path)


def test_a_look_at_the_lock_refuses_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looking = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(looking, fcntl.LOCK_SH)
    monkeypatch.setattr(time, "sleep", lambda seconds: os.close(looking))
    with alone_in(tmp_path):
        assert is_worked_in(tmp_path)
