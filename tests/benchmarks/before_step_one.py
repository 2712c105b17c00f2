"""Run `train` up to its first step, and write seconds and memory of this process as JSON: a child of bench_memory.py.

It also runs on earlier versions of hubdpo, which PYTHONPATH selects. The values of a cached reference are planted:
computing them takes the time of a model, and no memory.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn


def status() -> dict[str, int]:
    """Return the memory of this process in kB, by the names of /proc/self/status."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    pairs = (line.split(":") for line in lines if line.startswith(("VmHWM", "Rss")))
    return {name: int(value.split()[0]) for name, value in pairs}


class Watch(threading.Thread):
    """Looks for the most anonymous memory, of which the kernel keeps no peak."""

    most = 0

    def __init__(self) -> None:
        super().__init__(daemon=True)

    def run(self) -> None:
        while True:
            self.most = max(self.most, status()["RssAnon"])
            time.sleep(0.02)


def timed(function: Callable[..., Any], spent: list[float]) -> Callable[..., Any]:
    def call(*args: Any, **options: Any) -> Any:
        began = time.perf_counter()
        try:
            return function(*args, **options)
        finally:
            spent.append(time.perf_counter() - began)

    return call


def planted(trainer: Any, rows: Any, keys: Any = None, missing: Any = None) -> Any:
    """Return zeros as reference log-probs: one for each missing answer, and in earlier versions for each pair."""
    import numpy as np
    import torch

    if missing is not None:
        return np.zeros(len(missing))
    return {side: torch.zeros(len(rows), dtype=torch.float64) for side in ("chosen", "rejected")}


def main(base: str, dataset: str, output: str, reference: str) -> None:
    began = time.perf_counter()
    from hubdpo.model.bases import load

    of_model: list[float] = []
    load.load_base = timed(load.load_base, of_model)
    import hubdpo.training.train as stage
    from hubdpo.training.start import train
    from hubdpo.training.step import reference as reference_of
    from hubdpo.training.step.trainer import SharedPrefixDPOTrainer

    for name in ("choose_forward", "preflight"):
        setattr(stage, name, timed(getattr(stage, name), of_model))
    reference_of._compute = planted
    libraries, cpu = time.perf_counter() - began, sum(os.times()[:4])
    watch = Watch()
    watch.start()

    def reached(*args: Any, **options: Any) -> NoReturn:
        now, peak = status(), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        json.dump(
            {
                "seconds": round(time.perf_counter() - began - libraries - sum(of_model), 2),
                "libraries_s": round(libraries, 2),
                "model_s": round(sum(of_model), 2),
                "cpu_s": round(sum(os.times()[:4]) - cpu, 2),
                "peak_mb": now["VmHWM"] // 1000,
                "anonymous_mb": max(watch.most, now["RssAnon"]) // 1000,
                "mapped_mb": now["RssFile"] // 1000,
                "worker_mb": peak // 1000,
            },
            sys.stdout,
        )
        sys.stdout.flush()
        os._exit(0)

    SharedPrefixDPOTrainer.training_step = reached
    train(
        model_name_or_path=base, dataset=dataset, output_dir=output, max_steps=1000, max_length=512, load_in_4bit=False,
        per_device_train_batch_size=1, gradient_accumulation_steps=16, reference=reference, save_steps=10**6,
        eval_steps=10**6,
    )  # fmt: skip


if __name__ == "__main__":
    main(*sys.argv[1:])
