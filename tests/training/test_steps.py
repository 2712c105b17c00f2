"""The lines of a run, and a signal that stops it with a checkpoint."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from transformers import TrainerState

from hubdpo import train
from hubdpo.console import duration
from hubdpo.errors import Stopped
from hubdpo.machine import signals
from hubdpo.machine.signals import first_signal_asks
from hubdpo.training.run.steps import step_line
from hubdpo.training.step.tally import ACCURACY, Counts, Tally
from hubdpo.training.step.trainer import SharedPrefixDPOTrainer

ADAPTER = "adapter_model.safetensors"


@pytest.mark.parametrize("steps", [(1, 24), (9_999, 10_000), (99_999, 99_999)])
@pytest.mark.parametrize("seconds", [0.01, 3.7, 40.0])
@pytest.mark.parametrize("prefix", ["", "eval_"])
def test_a_line_fits_into_80_columns(steps: tuple[int, int], seconds: float, prefix: str) -> None:
    logs = {"loss": 10.12345, "rewards/accuracies": 0.98765, "rewards/margins": -12.34567}
    state = TrainerState(global_step=steps[0], max_steps=steps[1])
    line = step_line({prefix + key: value for key, value in logs.items()}, state, seconds_a_step=seconds)
    assert len(line) <= 80, line
    assert line.endswith(" left")
    assert "loss 10.1235  accuracy 0.988  margin -12.3457" in line


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0s"), (59.4, "59s"), (59.6, "1m 00s"), (3_599, "59m 59s"), (3_900, "1h 05m"), (183_600, "2d 03h")],
)
def test_a_time_has_two_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("margins", "accuracies", "found"),
    [(0.0, 0.0, 0.5), (0.0, 0.25, 0.25), (-0.1, 0.0, 0.0), (0.1, 1.0, 1.0)],
)
def test_pairs_that_all_tie_are_no_errors(margins: float, accuracies: float, found: float) -> None:
    tally = Tally()
    tally.add(Counts(4, 9, 9), {"rewards/margins": [margins], "rewards/accuracies": [accuracies]})
    names, values = tally.merged(Counts(4, 9, 9), lambda own: own)
    assert values[names.index(ACCURACY)] == found


def test_the_first_signal_asks_and_the_second_interrupts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "REPEAT_WINDOW", 0.0)
    asked: list[int] = []
    ended = False
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), first_signal_asks(lambda: not asked.append(1)):
        signal.raise_signal(signal.SIGINT)
        assert asked == [1]
        signal.raise_signal(signal.SIGINT)
        ended = True
    assert (asked, ended) == ([1], False)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_signal_that_cannot_be_obeyed_interrupts() -> None:
    ended = False
    with pytest.raises(KeyboardInterrupt), first_signal_asks(lambda: False):
        signal.raise_signal(signal.SIGINT)
        ended = True
    assert not ended


def test_signals_of_one_moment_are_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "REPEAT_WINDOW", 60.0)
    asked: list[int] = []
    reached = False
    with pytest.raises(KeyboardInterrupt), first_signal_asks(lambda: not asked.append(1)):
        for _ in range(3):
            signal.raise_signal(signal.SIGINT)
        reached = True
    assert (asked, reached) == ([1], True)


def options(base: Path, data: Path, run: Path, **more: Any) -> dict[str, Any]:
    return {
        "model_name_or_path": str(base), "dataset": str(data), "output_dir": run, "max_steps": 4, "max_length": 128,
        "learning_rate": 1e-3, "per_device_train_batch_size": 2, "gradient_accumulation_steps": 1,
        "lr_scheduler_type": "constant", **more,
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("where", ["training_step", "prediction_step"])
def test_ctrl_c_saves_the_step_and_the_resumed_run_is_the_uninterrupted_one(
    tiny_base: Path, dataset_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    plain = getattr(SharedPrefixDPOTrainer, where)

    def signalled(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self.state.global_step == 2:
            signal.raise_signal(signal.SIGINT)
        return plain(self, *args, **kwargs)

    stopped, whole = (options(tiny_base, dataset_dir, tmp_path / name, eval_steps=2) for name in ("run", "whole"))
    with monkeypatch.context() as patch:
        patch.setattr(SharedPrefixDPOTrainer, where, signalled)
        with pytest.raises(Stopped) as caught:
            train(**stopped)
    saved = tmp_path / "run" / f"checkpoint-{3 if where == 'training_step' else 2}"
    assert saved.is_dir()
    said = capsys.readouterr().err
    assert "stopping  once this step is done and saved" in said
    assert f"saved     {saved}" in said
    assert shlex.split(caught.value.hint)[-1] == "--resume"
    train(**stopped, resume=True)
    train(**whole)
    assert (tmp_path / "run" / ADAPTER).read_bytes() == (tmp_path / "whole" / ADAPTER).read_bytes()
    evaluated = [(tmp_path / name / "metrics.jsonl").read_text().count("eval_loss") for name in ("run", "whole")]
    assert evaluated[0] == evaluated[1]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_several_processes_saves_their_step(
    tiny_base: Path, dataset_dir: Path, tmp_path: Path, number: int
) -> None:
    chosen = options(tiny_base, dataset_dir, tmp_path / "run", max_steps=5000, num_processes=2)
    words = [f"--{name.replace('_', '-')}={value}" for name, value in chosen.items()]
    with subprocess.Popen(
        [sys.executable, "-m", "hubdpo", "train", *words, "--device=cpu"], stderr=subprocess.PIPE, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as process:  # fmt: skip
        assert process.stderr is not None
        said = ""
        while "  loss " not in said:
            line = process.stderr.readline()
            assert line, said
            said += line
        process.send_signal(number)
        began = time.monotonic()
        said += process.stderr.read()
        assert process.wait() == 128 + number, said
    assert time.monotonic() - began < 60
    assert said.count("stopping ") == 1
    (checkpoint,) = (tmp_path / "run").glob("checkpoint-*")
    assert f"saved     {checkpoint}" in said
    assert said.rstrip().endswith("--resume")
    assert "Traceback" not in said
