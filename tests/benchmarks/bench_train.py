"""Time a DPO step of hubdpo beside the same step of stock TRL, in one interleaved run on the CPU.

There are two peers: TRL with its defaults (gradient checkpointing, reference in every step, batches as they come), and
TRL at its best (batches of like length, cached reference, no checkpointing). hubdpo runs the same batches with the same
settings. Where there is .venv-llamafactory, LLaMA-Factory's own trainer runs those of the first shape, in a process of
its own: its best is batches of like length and no checkpointing, as it caches no reference. The model has the
proportions of Qwen2-0.5B, so that its head and its layers take the same fractions of the time. Then each option for
speed runs a step of STEP pairs on an NF4 base, interleaved with TRL's defaults, and `bench_groups.py` all pairs of
several answers. The result is the ratio: seconds differ from machine to machine. `make bench-train` writes train.json
beside this file.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import trl

from tests.benchmarks import bench_groups, peers, tables
from tests.benchmarks.pair_data import LENGTHS, by_length, rows
from tests.benchmarks.train_steps import LAYERS, MODEL, SETTINGS, Arm, Step, make_base

REPORT = Path(__file__).with_name("train.json")
BATCHES, REPEATS = 2, 2
STEP = 32
OPTIONS: dict[str, dict[str, Any]] = {  # each is compared with the first, TRL's defaults
    "TRL": {"shared_prefix": False},
    "hubdpo": {},
    "--tokens-per-batch 4096": {"tokens_per_batch": 4096},
    f"--checkpoint-layers {LAYERS // 2}": {"checkpoint_layers": LAYERS // 2},
    "--checkpoint-layers 0": {"checkpoint_layers": 0},
    "--dequantize-once": {"dequantize_once": True},
    "--reference cached": {"reference": "cached"},
    "all of them, 0 layers": {
        "tokens_per_batch": 4096, "checkpoint_layers": 0, "dequantize_once": True, "reference": "cached",
    },
}  # fmt: skip


def measure(base: Path, out: Path, shape: str, setting: str, pairs: int) -> list[dict[str, Any]]:
    """Return a row of the results for each peer: TRL, and for the first shape LLaMA-Factory."""
    options = {"per_device_train_batch_size": pairs, "load_in_4bit": False, **SETTINGS[setting]}
    arm = Arm(base, out, rows(shape, pairs * BATCHES), options)
    cut = [arm.rows[start : start + pairs] for start in range(0, len(arm.rows), pairs)]
    batches = by_length(arm.rows, pairs) if setting == "best" else cut
    factory = None
    if shape == next(iter(LENGTHS)) and peers.PYTHON.exists():
        factory = peers.LlamaFactory(base, out.parent / f"factory-{setting}", arm.config, arm.adapter(), batches)
    names = ["hubdpo", f"TRL {setting}"] + ([f"LLaMA-Factory {setting}"] if factory else [])
    kept = dict.fromkeys(names, 0)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    losses: dict[str, list[float]] = {name: [] for name in names}
    shared = arm.parts.shared_prefix
    shared.padded_tokens = shared.packed_tokens = 0
    for number, batch in enumerate(batches):
        took: dict[str, list[Step]] = {name: [] for name in names}
        for repeat in range(REPEATS):
            for name in names[:2]:
                arm.parts.use(packed=name == "hubdpo", fused=name == "hubdpo")
                took[name].append(arm.step([batch], watched=not repeat))
            if factory:
                took[names[2]].append(factory.step(number))
        for name, steps in took.items():
            seconds[name].append(min(step.seconds for step in steps))
            losses[name].append(steps[0].loss)
            kept[name] = max(kept[name], steps[0].kept)
    if factory:
        factory.close()
    rate = {name: round(len(arm.rows) / sum(seconds[name]), 2) for name in names}
    return [
        {
            "lengths": shape, "peer": peer, "pairs": pairs,
            "tokens_ratio": round(shared.padded_tokens / shared.packed_tokens, 2),
            "peer_pairs_per_s": rate[peer], "hubdpo_pairs_per_s": rate["hubdpo"],
            "speed_ratio": round(sum(seconds[peer]) / sum(seconds["hubdpo"]), 2),
            "peer_kept_mb": round(kept[peer] / 1e6) or None, "hubdpo_kept_mb": round(kept["hubdpo"] / 1e6),
            "peer_losses": losses[peer], "hubdpo_losses": losses["hubdpo"],
            "largest_loss_difference": max(
                abs(one - other) for one, other in zip(losses[peer], losses["hubdpo"], strict=True)
            ),
        }
        for peer in names[1:]
    ]  # fmt: skip


def measure_options(base: Path, out: Path, pairs: int) -> list[dict[str, Any]]:
    """Run the same step with every option, one after the other, and again."""
    shape = next(iter(LENGTHS))
    data, batches = rows(shape, STEP), {}
    passes = {"per_device_train_batch_size": pairs, "gradient_accumulation_steps": STEP // pairs}
    arms = {name: Arm(base, out, data, {**passes, **options}, nf4=True) for name, options in OPTIONS.items()}
    for name, arm in arms.items():
        size = STEP if arm.config.tokens_per_batch else pairs
        batches[name] = [arm.rows[start : start + size] for start in range(0, STEP, size)]
    found = [
        {name: arm.step(batches[name], watched=not repeat) for name, arm in arms.items()} for repeat in range(REPEATS)
    ]
    first, seconds = found[0], {name: min(run[name].seconds for run in found) for name in OPTIONS}
    return [
        {
            "lengths": shape, "option": option, "pairs_per_s": round(STEP / seconds[option], 2),
            "speed_ratio": round(seconds["TRL"] / seconds[option], 2), "kept_mb": round(first[option].kept / 1e6),
            "loss_difference": abs(first[option].loss - first["TRL"].loss),
        }
        for option in OPTIONS
    ]  # fmt: skip


def measure_shapes(base: Path, out: Path, pairs: int) -> list[dict[str, Any]]:
    return [row for shape in LENGTHS for setting in SETTINGS for row in measure(base, out, shape, setting, pairs)]


PARTS: dict[str, Callable[[Path, Path, int], list[dict[str, Any]]]] = {
    "results": measure_shapes, "options": measure_options, "groups": bench_groups.measure_all,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=8)
    parser.add_argument("--only", nargs="*", choices=PARTS, default=PARTS, help="the rest stays as it was measured")
    chosen = parser.parse_args()
    report = json.loads(REPORT.read_text(encoding="utf-8"))
    torch.manual_seed(0)
    torch.set_num_threads(1)  # CPU seconds of threads that wait for each other are no measure
    if not peers.PYTHON.exists():
        sys.stderr.write(f"{peers.MISSING}\n")
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["HUBDPO_CACHE"] = scratch
        base = make_base(Path(scratch) / "base")
        for part in chosen.only:
            report[part] = PARTS[part](base, Path(scratch) / "run", chosen.pairs)
    of_trl = [row for row in report["results"] if row["peer"].startswith("TRL")]
    for lengths in LENGTHS:
        defaults, best = (row for row in of_trl if row["lengths"] == lengths)
        best["over_defaults"] = round(best["hubdpo_pairs_per_s"] / defaults["peer_pairs_per_s"], 2)
    report |= {
        "environment": {
            "cpu_threads": torch.get_num_threads(), "machine": platform.machine(), "python": platform.python_version(),
            "torch": torch.__version__, "trl": trl.__version__, "model": MODEL,
            "llama_factory": peers.version() if peers.PYTHON.exists() else None,
        },
        "pairs_a_step": STEP,
        "layers": LAYERS,
        "median_speed_ratio": statistics.median(row["speed_ratio"] for row in of_trl),
    }  # fmt: skip
    REPORT.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    tables.put("bench-train", tables.train_table(report))
    json.dump(report, sys.stdout, indent=2)


if __name__ == "__main__":
    main()
