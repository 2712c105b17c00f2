"""Runs of 30 steps in one process and in two, under each kind of sharding: what the tests of sharding compare."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import torch
from safetensors.torch import load_file

from hubdpo import prepare
from hubdpo.training.sharding import Sharding

ON_GLOO = Path(__file__).with_name("on_gloo.py")
STEPS, SAVE, KILL_AT = 30, 10, 17
CURVES = ("loss", "grad_norm", "rewards/margins", "learning_rate")


@dataclass(frozen=True)
class Run:
    """A finished run folder."""

    folder: Path

    def lines(self) -> dict[int, dict[str, float]]:
        text = (self.folder / "metrics.jsonl").read_text().splitlines()
        return {line["step"]: line for line in map(json.loads, text) if "loss" in line}

    def adapter(self) -> dict[str, torch.Tensor]:
        return load_file(self.folder / "adapter_model.safetensors")

    def manifest(self) -> dict[str, Any]:
        return json.loads((self.folder / "run.json").read_text())

    def probes(self) -> list[float]:
        probes = json.loads((self.folder / "probes.json").read_text())["probes"]
        return [value for probe in probes for value in probe["log_probs"]]


@dataclass(frozen=True)
class Runs:
    """An uninterrupted run, one by tokens, and one that was killed and resumed; and what each rank held in the end."""

    whole: Run
    by_tokens: Run
    resumed: Run
    checkpoints_after_kill: list[str]
    held: list[dict[str, int]]


def dataset(folder: Path) -> Path:
    """62 pairs of unlike lengths: two of 31 steps of two pairs short of an epoch. No split to score, which is slow."""
    pairs = [
        {
            "prompt": [{"role": "user", "content": f"Question {i}: {i} plus one is?" + " Tell me more." * (i % 5)}],
            "chosen": [{"role": "assistant", "content": f"It is {i + 1}, gladly." + " Take your time." * (i % 3)}],
            "rejected": [{"role": "assistant", "content": f"No idea about {i}."}],
        }
        for i in range(62)
    ]  # fmt: skip
    (folder / "pairs.jsonl").write_bytes(b"".join(orjson.dumps(pair) + b"\n" for pair in pairs))
    prepare(source=[str(folder / "pairs.jsonl")], output_dir=folder / "data", test_size=0, license="mit")
    return folder / "data"


def options(base: Path, data: Path, run: Path, *more: str, processes: int = 2, **changed: int) -> list[str]:
    """Steps of four pairs, in as many batches of each process as make them up; the last of an epoch has two pairs."""
    values = {
        "model_name_or_path": base, "dataset": data, "output_dir": run, "max_steps": STEPS, "save_steps": SAVE,
        "learning_rate": 1e-3, "max_length": 128, "max_grad_norm": 0.5, "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": 4 // processes, **changed,
    }  # fmt: skip
    return [*more, *(f"--{name.replace('_', '-')}={value}" for name, value in values.items())]


def launch(
    kind: Sharding | None, out: Path, *runs: list[str], processes: int = 2, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run `on_gloo.py` in several processes: under the shipped configuration, or in data parallel."""
    started = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    if kind is not None:
        started = ["accelerate.commands.launch", "--config_file", str(kind.launch_config)]
        started += ["--num_processes", str(processes), "--main_process_port", "0"]
    return subprocess.run(
        [sys.executable, "-m", *started, str(ON_GLOO), str(out), *map(json.dumps, runs)],
        capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1", **variables},
    )  # fmt: skip


def in_one_process(base: Path, data: Path, out: Path) -> Run:
    command = [sys.executable, "-m", "hubdpo", "train", *options(base, data, out / "run", processes=1)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return Run(out / "run")


def in_two_processes(kind: Sharding | None, base: Path, data: Path, out: Path) -> Runs:
    """Kill a run at step 17 of 30 and resume it; in the same two processes, train without a break, and by tokens."""
    killed, whole, by_tokens = out / "killed", out / "whole", out / "by-tokens"
    done = launch(kind, out, options(base, data, killed), KILL_AT=str(KILL_AT))
    assert done.returncode, done.stdout
    saved = sorted(path.parent.name for path in killed.glob("checkpoint-*/hubdpo-complete.json"))
    tokens = {"tokens_per_batch": 128, "per_device_train_batch_size": 2, "gradient_accumulation_steps": 1}
    runs = [
        options(base, data, killed, "--resume"),
        options(base, data, by_tokens, **tokens, max_steps=5),
        options(base, data, whole),
    ]
    done = launch(kind, out, *runs)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    held = [json.loads((out / f"{rank}.json").read_text()) for rank in range(2)]
    return Runs(Run(whole), Run(by_tokens), Run(killed), saved, held)


def largest_difference(first: Run, second: Run, name: str) -> float:
    lines, others = first.lines(), second.lines()
    assert lines.keys() == others.keys()
    return max(abs(lines[step][name] - others[step][name]) for step in lines)


def relative_difference(first: Run, second: Run) -> float:
    weights, others = first.adapter(), second.adapter()
    assert weights.keys() == others.keys()
    difference = sum(float((weights[name] - others[name]).square().sum()) for name in weights)
    return (difference / sum(float(weight.square().sum()) for weight in weights.values())) ** 0.5
