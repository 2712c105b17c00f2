"""Runs for the tests of the pages: folders as training leaves them, without a training."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from hubdpo.artefacts.formats.pair_scores import to_lines
from hubdpo.artefacts.manifests.evaluation import EvalReport, Sample
from hubdpo.artefacts.manifests.intervals import Accuracy
from hubdpo.artefacts.manifests.manifest import EVAL_FILE, EVAL_PAIRS_FILE, LOCAL_FILE, METRICS_FILE, RUN_FILE
from hubdpo.artefacts.manifests.run import BaseRef, DatasetRef, RunManifest
from hubdpo.config import TrainConfig
from hubdpo.training.run.record import published_config

PAIRS = 24
"""Held-out pairs, numbered backwards in the file of scores."""


def line(step: int, **more: float) -> dict[str, float]:
    """Return a line of a metrics.jsonl: the loss falls, and each step takes two seconds and 1,000 tokens."""
    return {
        "step": step, "seconds": 2.0 * step, "loss": 0.7 - step / 1000, "rewards/accuracies": 0.5 + step / 1000,
        "rewards/margins": step / 100, "logps/chosen": -100.0 - step, "logps/rejected": -100.0 - 2 * step,
        "learning_rate": 5e-6, "grad_norm": 1.5, "num_tokens": 1000.0 * step, "epoch": step / 100, **more,
    }  # fmt: skip


def held_out(step: int, prefix: str = "eval_") -> dict[str, float]:
    values = {"loss": 0.69, "rewards/accuracies": 0.625, "rewards/margins": 0.01, "runtime": 1.0}
    return {"step": step, "seconds": 2.0 * step + 1, **{f"{prefix}{name}": value for name, value in values.items()}}


def write_log(folder: Path, lines: Sequence[dict[str, float]]) -> None:
    (folder / METRICS_FILE).write_text("".join(json.dumps(each) + "\n" for each in lines))


def scores(pairs: int = PAIRS) -> dict[str, Any]:
    """Return scores in which the base ranks even rows right, and the adapter those that are divisible by three."""
    row = np.arange(pairs)[::-1]
    margin = {"base": np.where(row % 2, -0.5, 0.5), "adapter": np.where(row % 3, -1.0, 1.0) * (1 + row / 100)}
    columns: dict[str, Any] = {"row": row, "chosen_tokens": row + 2, "rejected_tokens": row + 5}
    for model, of in margin.items():
        columns[f"{model}_rejected"] = -3.0 * columns["rejected_tokens"]
        columns[f"{model}_chosen"] = (of - 3.0) * columns["chosen_tokens"]
    order = ["row", "chosen_tokens", "rejected_tokens", *(f"{m}_{s}" for m in margin for s in ("chosen", "rejected"))]
    return {name: columns[name] for name in order}


def report(samples: Sequence[tuple[str, str, str]] = (), right: int = 15) -> EvalReport:
    share = Accuracy.of(right, PAIRS)
    return EvalReport(
        split="test", pairs=PAIRS, reward_accuracy=share, reward_margin=0.01, base_accuracy=Accuracy.of(12, PAIRS),
        adapter_accuracy=share, longer_answer_accuracy=share, base_margin=0.0, adapter_margin=0.1,
        samples=[Sample(prompt=prompt, base=base, adapter=adapter) for prompt, base, adapter in samples],
    )  # fmt: skip


def write_run(
    folder: Path, *, status: Any = "complete", steps: int = 8, planned: int = 8, data: Path | None = None,
    evaluated: EvalReport | None = None, options: dict[str, Any] | None = None, **more: Any,
) -> Path:  # fmt: skip
    """Write a run of so many logged steps, evaluated every fourth one, with scores if it is `evaluated`."""
    folder.mkdir(parents=True)
    config = TrainConfig(model_name_or_path="me/base", dataset="d", output_dir=folder, **(options or {}))
    RunManifest(**{
        "hubdpo_version": "0.4.0", "status": status, "config": published_config(config), "device": "cpu", "seed": 42,
        "base": BaseRef(name="me/base", repo_id="me/base", revision="a" * 40), "versions": {"torch": "2.11.0"},
        "dataset": DatasetRef(name="d", fingerprint="0" * 64, train_pairs=96, test_pairs=PAIRS),
        "planned_steps": planned, "steps": steps if status == "complete" else 0, **more,
    }).write(folder / RUN_FILE)  # fmt: skip
    write_log(folder, [
        each for step in range(1, steps + 1) for each in (line(step), *([held_out(step)] if step % 4 == 0 else []))
    ])  # fmt: skip
    if evaluated is not None:
        evaluated.write(folder / EVAL_FILE)
        (folder / EVAL_PAIRS_FILE).write_bytes(to_lines(scores()))
    if data is not None:
        (folder / LOCAL_FILE).write_text(json.dumps({"dataset": str(data.resolve())}))
    return folder


@contextmanager
def worked_in(folder: Path) -> Iterator[None]:
    """Hold the lock of a run folder, as a process does that trains in it."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
