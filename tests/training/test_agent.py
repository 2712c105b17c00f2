"""torchrun as `--num-processes` starts it: all processes end with their parent, which reports the first failure."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from hubdpo import console, train
from hubdpo.config import TrainConfig
from hubdpo.errors import ArtefactError, BugElsewhere, DataError, MachineError, TrainingError
from hubdpo.machine.endings import LAUNCHED, first_failure, leave_bug, leave_code, leave_error, make_room
from hubdpo.training.launch import processes

RUN = """
from pathlib import Path
import hubdpo.training.start
from hubdpo.cli.app import main
from hubdpo.training.launch.processes import run_in_processes

def train(config):
    Path("notes").mkdir()
    words = ["w.py", "train", "--model-name-or-path=b", "--dataset=me/d", "--output-dir=r"]
    run_in_processes(2, words, Path("notes"), lambda: ("`r/checkpoint-6` is kept", "go on"))

hubdpo.training.start.train = train
main()
"""
LAUNCH = [sys.executable, "-c", RUN, "train", "--model-name-or-path=b", "--dataset=me/d", "--output-dir=r"]
WORK = """
import os, pathlib, time
pathlib.Path(f"rank-{os.environ['RANK']}").write_text(f"{os.getpid()} {os.getppid()}")
time.sleep(300)
"""
TOGETHER = """
import os, signal, time
import torch
import hubdpo.training.start
from hubdpo.cli.app import main
from hubdpo.errors import MachineError
from hubdpo.machine.endings import end_with_parent
from hubdpo.training.launch.processes import leave_at_exit

def train(config):
    leave_at_exit()
    if os.environ["RANK"] == "0":
        end_with_parent(os.getppid())
    torch.distributed.init_process_group("gloo")
    torch.distributed.all_reduce(torch.ones(1))
    while os.environ["RANK"] == "0":
        torch.distributed.all_reduce(torch.ones(1))
    {fails}

hubdpo.training.start.train = train
main()
"""
KEPT = "`r/checkpoint-6` is kept\nhint: go on\n"
FAILURES = {
    "killed": (
        "os.kill(os.getpid(), signal.SIGKILL)", 8,
        f"error: process 2 of 2 was killed by SIGKILL, usually for lack of memory; {KEPT}",
    ),
    "the machine refuses": ("raise MachineError('the disk is full', hint='free some')", 9,
                            "error: the disk is full\nhint: free some\n"),
    "a bug": ("{}['no errno 28']", 1, None),
    "torchrun is killed": (
        "os.kill(os.getppid(), signal.SIGKILL); time.sleep(1); os.write(2, b'late\\n'); os._exit(1)", 8,
        f"late\nerror: torchrun was killed by SIGKILL, usually for lack of memory; {KEPT}",
    ),
}  # fmt: skip


@pytest.mark.parametrize("way", FAILURES)
def test_only_the_first_failure_is_reported(tmp_path: Path, way: str) -> None:
    fails, code, told = FAILURES[way]
    (tmp_path / "w.py").write_text(TOGETHER.replace("{fails}", fails))
    done = subprocess.run(LAUNCH, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == code, done.stderr
    if told is None:
        assert done.stderr.startswith("Traceback")
        assert done.stderr.count("Traceback") == 1
        assert done.stderr.endswith("KeyError: 'no errno 28'\n")
    else:
        assert done.stderr == told


def no_checkpoint() -> tuple[str, str]:
    return "nothing was saved yet", "start anew"


@pytest.mark.parametrize(
    ("words", "code", "type_", "exit_code", "message"),
    [
        ([("0", leave_error, ArtefactError("no `a`", hint="b"))], 1, ArtefactError, 3, "no `a`"),
        ([("1", leave_error, DataError("first")), ("0", leave_bug, "a consequence")], 1, DataError, 3, "first"),
        ([("1", leave_bug, "Traceback: x"), ("0", leave_bug, "Traceback: y")], 1, BugElsewhere, None, "Traceback: x"),
        ([], -9, TrainingError, 8, "torchrun was killed by SIGKILL, usually for lack of memory; nothing"),
        ([], 143, TrainingError, 8, "torchrun was stopped by SIGTERM; nothing"),
        ([("agent", leave_code, (1, -11))], 1, TrainingError, 8, "process 2 of 2 was stopped by SIGSEGV; nothing"),
        ([("agent", leave_code, (1, 143))], 1, TrainingError, 8, "process 2 of 2 was stopped by SIGTERM; nothing"),
        ([("agent", leave_code, (0, 134))], 1, TrainingError, 8, "process 1 of 2 was stopped by SIGABRT; nothing"),
        ([("agent", leave_code, (0, 9))], 1, TrainingError, 9, "process 1 of 2 ended with 9; its output is above"),
        (
            [("0", leave_error, MachineError("full")), ("agent", leave_code, (0, -9))], 1, MachineError, 9, "full",
        ),
        (
            [("0", leave_bug, "late"), ("agent", leave_code, (1, -9))], 1, TrainingError, 8, "process 2 of 2 was kill",
        ),
    ],
)  # fmt: skip
def test_the_first_failure_is_found_in_the_reports_of_all_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: Any, code: int, type_: Any, exit_code: int, message: str
) -> None:
    monkeypatch.setattr("hubdpo.machine.endings.KILLED_WITHIN", 0)
    monkeypatch.setenv(LAUNCHED, str(tmp_path))
    make_room(tmp_path, 2)
    for rank, leave, word in words:
        monkeypatch.setenv("RANK", rank)
        assert leave(*word) is None if leave is leave_code else leave(word)
    found = first_failure(tmp_path, 2, code, no_checkpoint)
    assert type(found) is type_
    assert str(found).startswith(message)
    assert getattr(found, "exit_code", None) == exit_code
    if isinstance(found, ArtefactError | TrainingError):
        assert found.hint == ("b" if isinstance(found, ArtefactError) else "start anew")


def test_a_report_needs_no_free_disk_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LAUNCHED, str(tmp_path))
    make_room(tmp_path, 1)
    before = (tmp_path / "ended-0").stat()
    assert leave_error(MachineError("the disk is full", hint="é" * 100))
    after = (tmp_path / "ended-0").stat()
    assert (after.st_size, after.st_ino, after.st_blocks) == (before.st_size, before.st_ino, before.st_blocks)


def test_a_process_that_cannot_leave_a_report_prints_its_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not leave_error(MachineError("x"))
    monkeypatch.setenv(LAUNCHED, str(tmp_path / "gone"))
    assert not leave_error(MachineError("x"))


def test_only_rank_0_warns(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(console.output, "errors_only", False)
    monkeypatch.setattr(console.output, "format", console.Format.human)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    heavy = SimpleNamespace(train=lambda config, common, journal: console.warn("high"))
    monkeypatch.setitem(sys.modules, "hubdpo.training.train", heavy)
    train(model_name_or_path="b", dataset="d", output_dir=Path("r"))
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_process_is_left(tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "w.py").write_text(WORK)
    process = subprocess.Popen(LAUNCH, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while len(list(tmp_path.glob("rank-*"))) < 2:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    time.sleep(0.3)
    left = {int(number) for place in tmp_path.glob("rank-*") for number in place.read_text().split()}
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == (128 + number if number is signal.SIGTERM else -number)
    assert "Traceback" not in said
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{each}").exists() if Path("/proc").exists() else is_there(each) for each in left):
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.parametrize("way", console.Format)
def test_launched_processes_inherit_quiet(monkeypatch: pytest.MonkeyPatch, way: console.Format) -> None:
    words: list[str] = []
    monkeypatch.setattr(console.output, "format", way)
    monkeypatch.setattr(processes, "run_in_processes", lambda count, given, *_: words.extend(given))
    processes.launch(TrainConfig.build({"model_name_or_path": "b", "dataset": "d", "output_dir": "r"}))
    assert ("--quiet" in words) is (way is console.Format.quiet)


def test_launched_processes_inherit_an_option_that_is_given_with_its_default(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, object] = {}

    def read(count: int, words: list[str], *_: object) -> None:
        given.update(yaml.safe_load(Path(words[words.index("--config") + 1]).read_text()))

    monkeypatch.setattr(processes, "run_in_processes", read)
    options = {"model_name_or_path": "b", "dataset": "d", "output_dir": "r", "per_device_train_batch_size": 4}
    processes.launch(TrainConfig.build(options))
    assert given == options


def is_there(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True
