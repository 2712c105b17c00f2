"""The GPU check, rehearsed on the CPU: every step runs, with tiny shapes, and says what a GPU would be asked."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.gpu.check import ROOT, STEPS, summarise
from tests.gpu.findings import RESULTS, Check, read_findings
from tests.gpu.publish import report_of
from tests.gpu.road import OPTIONS

ARMS = {"TRL defaults", "hubdpo", "hubdpo --reference cached", "TRL defaults, again"}


def rehearse(out: Path, *steps: str) -> list[dict[str, object]]:
    command = [sys.executable, "-m", "tests.gpu.check", "--rehearse", "--out", str(out), "--only", ",".join(steps)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + (out / "log.txt").read_text()[-3000:]
    return read_findings(out)


@pytest.mark.slow
def test_kernels_and_parity_are_rehearsed(tmp_path: Path) -> None:
    found = rehearse(tmp_path, "kernels", "parity")
    assert sum("attention" in line for line in found) == 3
    assert sum("parity" in line for line in found) == 4


@pytest.mark.slow
def test_the_benchmark_is_rehearsed_with_equal_losses(tmp_path: Path) -> None:
    arms = {line["arm"]: line for line in rehearse(tmp_path, "bench") if "arm" in line}
    assert arms.keys() >= ARMS
    assert max(arm["loss"] for arm in arms.values()) - min(arm["loss"] for arm in arms.values()) < 1e-5


@pytest.mark.slow
def test_the_commands_are_rehearsed(tmp_path: Path) -> None:
    commands = [line["command"] for line in rehearse(tmp_path, "road", "7b") if "command" in line]
    assert commands == [
        "prepare", "train", "push", "verify", "merge", "evaluate", "doctor", "prepare 7B", "train 7B",
    ]  # fmt: skip


@pytest.mark.slow
def test_kill_and_resume_are_rehearsed_with_equal_adapters(tmp_path: Path) -> None:
    adapters = {line["adapters"]: line for line in rehearse(tmp_path, "resume") if "adapters" in line}
    assert len(adapters) == 4
    assert all(line["equal"] for line in adapters.values())  # on a CPU: there the passes are by pairs as well


@pytest.mark.slow
def test_options_are_rehearsed_beside_the_defaults(tmp_path: Path) -> None:
    losses = {line["options"]: line["losses"] for line in rehearse(tmp_path, "options") if "options" in line}
    assert losses.keys() == OPTIONS.keys()
    assert losses["dequantised"] == pytest.approx(losses["defaults"], abs=1e-4)  # the same pairs and weights
    assert losses["grouped"] != pytest.approx(losses["defaults"], abs=1e-4)  # other pairs in each step


def test_a_failure_is_a_finding_and_the_next_part_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    check = Check("kernels", tmp_path, tmp_path, rehearse=True)
    with check.part("first"):
        raise ValueError("no such kernel")
    with check.part("second"):
        pass
    assert [(line["part"], line["ok"]) for line in read_findings(tmp_path)] == [("first", False), ("second", True)]
    assert summarise(tmp_path) == 1
    assert "part first: ValueError: no such kernel" in capsys.readouterr().out


def test_a_step_that_runs_over_the_end_is_stopped_and_said(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.gpu.check", "--rehearse", "--out", str(tmp_path), "--minutes", "0.02"]
    done = subprocess.run([*command, "--only", "kernels,parity"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    ended = {line["ended"]: line["error"] for line in read_findings(tmp_path) if "ended" in line}
    assert ended == {"kernels": "stopped at its limit", "parity": "no time was left"}


def test_an_unknown_step_is_refused(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.gpu.check", "--rehearse", "--out", str(tmp_path), "--only", "kernel"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert "no step is called `kernel`; there are kernels, parity" in done.stderr
    assert set(STEPS) >= {"kernels", "parity", "road", "demo", "bench", "7b"}


def test_a_signal_ends_the_steps_and_what_they_run(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.gpu.check", "--rehearse", "--out", str(tmp_path), "--only", "resume"]
    check = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while len(started := psutil.Process(check.pid).children(recursive=True)) < 2:  # the step, and its first command
        assert time.monotonic() < deadline
        time.sleep(0.05)
    check.terminate()
    assert check.wait(60) == 1
    assert not psutil.wait_procs(started, timeout=10)[1]
    assert read_findings(tmp_path)[-1]["error"] == "stopped by a signal"


def test_a_second_check_in_a_folder_starts_anew(tmp_path: Path) -> None:
    (tmp_path / RESULTS).write_text('{"step": "bench", "arm": "of before", "ok": false}\n')
    command = [sys.executable, "-m", "tests.gpu.check", "--rehearse", "--out", str(tmp_path), "--minutes", "0"]
    subprocess.run([*command, "--only", "kernels"], cwd=ROOT, capture_output=True)
    assert [line for line in read_findings(tmp_path) if line["step"] == "bench"] == []


def test_a_rehearsal_is_not_published(tmp_path: Path) -> None:
    Check("all", tmp_path, tmp_path, rehearse=True).find(steps=["bench"], rehearse=True)
    with pytest.raises(SystemExit, match="a rehearsal is not published"):
        report_of([tmp_path])


def test_without_a_gpu_the_rehearsal_is_named(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.gpu.check", "--out", str(tmp_path)]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    assert "no CUDA device is found; --rehearse" in done.stderr


def test_the_report_keeps_the_last_of_each_step(tmp_path: Path) -> None:
    for name, pairs in (("first", 1.0), ("second", 2.0)):
        out = tmp_path / name
        out.mkdir()
        Check("bench", out, out, rehearse=True).find(arm="hubdpo", ok=True, pairs_per_s=pairs, all_seconds=[1])
    first = Check("kernels", tmp_path / "first", tmp_path, rehearse=True)
    first.find(matmul_tflops=700.0)
    first.find(ended="kernels", ok=False)
    assert report_of([tmp_path / "first", tmp_path / "second"]) == {
        "not to the end": ["kernels"], "arm": [{"arm": "hubdpo", "ok": True, "pairs_per_s": 2.0}],
        "matmul_tflops": 700.0,
    }  # fmt: skip
