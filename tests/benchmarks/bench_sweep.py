"""Measure a sweep of six runs beside six `hubdpo train` processes: CPU seconds in all, and that the runs are the same.

The separate runs are those that a user would start one after another, once at `train`'s defaults and once with
`--reference cached`, where the first leaves its reference log-probs and tokens on the disk for the others. Every way
begins with an empty cache. CPU seconds are those of the processes and their children. `make bench-sweep` writes
sweep.json beside it.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import os
import platform
import shlex
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

import orjson

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.benchmarks import tables  # noqa: E402
from tests.benchmarks.raw_data import Writer  # noqa: E402

BETAS, RATES = ("0.05", "0.1"), ("1e-5", "5e-5", "2e-4")
SIZES = ((48, 64), (128, 128))
"""Pairs of the train split, and held-out ones."""
HIDDEN, LAYERS = 128, 4
OPTIONS = (
    "--max-length 512 --per-device-train-batch-size 4 --gradient-accumulation-steps 2 --lora-r 8 --no-load-in-4bit "
    "--eval-steps 6 --save-steps 6"
)
ONLINE, CACHED, SWEEP = "6 × hubdpo train", "6 × hubdpo train --reference cached", "hubdpo sweep"
SETUP = """
import sys
from pathlib import Path
from hubdpo import prepare
from hubdpo.demo.tiny_base import make_tiny_base
place, hidden, layers, test_size = Path(sys.argv[1]), *map(int, sys.argv[2:4]), float(sys.argv[4])
make_tiny_base(place / "base", hidden_size=hidden, num_layers=layers)
prepare(source=[str(place / "pairs.jsonl")], output_dir=place / "data", test_size=test_size, license="mit")
"""


def pair(write: Writer) -> dict[str, str]:
    return {"prompt": write.words(80, 500), "chosen": write.words(60, 300), "rejected": write.words(60, 300)}


def run(command: str, place: Path, cache: Path) -> float:
    """Run a command with a cache, and return the CPU seconds that it and its children took."""
    env = {**os.environ, "HUBDPO_CACHE": str(cache), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    words = [sys.executable, "-m", *shlex.split(command)]
    process = subprocess.Popen(words, cwd=place, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"`{command}` ended with status {status}")
    return used.ru_utime + used.ru_stime


def apart(place: Path, options: str, folder: str) -> float:
    """Train the runs one after another, each in a process of its own."""
    grid = itertools.product(BETAS, RATES)
    return sum(
        run(f"{options} --beta {b} --learning-rate {r} -o {folder}/{name_of(b, r)}", place, place / f"cache-{folder}")
        for b, r in grid
    )


def ways(place: Path, options: str) -> dict[str, tuple[float, Path]]:
    """Return the CPU seconds of each way and the folder that it wrote; the ways run side by side."""
    common = f"--model-name-or-path base --dataset data {options}"
    grid = f"--beta {' '.join(BETAS)} --learning-rate {' '.join(RATES)}"
    calls = {
        ONLINE: lambda: apart(place, f"hubdpo train {common}", "online"),
        CACHED: lambda: apart(place, f"hubdpo train {common} --reference cached", "cached"),
        SWEEP: lambda: run(f"hubdpo sweep {common} {grid} -o sweep", place, place / "cache-sweep"),
    }
    with ThreadPoolExecutor(len(calls)) as pool:
        seconds = {way: pool.submit(call) for way, call in calls.items()}
    folders = dict(zip(calls, ("online", "cached", "sweep"), strict=True))
    return {way: (each.result(), place / folders[way]) for way, each in seconds.items()}


def name_of(beta: str, rate: str) -> str:
    return f"beta-{beta}_learning-rate-{float(rate)}"


def results(folder: Path) -> dict[str, Any]:
    """Return for each run the hash of its adapter, its scores, and the seconds of its steps."""
    found = {}
    for path in sorted(folder.iterdir()):
        if (path / "run.json").is_file():
            told = orjson.loads((path / "run.json").read_bytes())
            adapter = hashlib.sha256((path / "adapter_model.safetensors").read_bytes()).hexdigest()
            found[path.name] = {
                "adapter": adapter, "scores": orjson.loads((path / "eval.json").read_bytes()),
                "steps": told["steps"], "loss": told["metrics"]["eval_loss"],
            }  # fmt: skip
    return found


def measured(pairs: int, held_out: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="hubdpo-bench-") as scratch:
        place, write = Path(scratch), Writer(seed=0)
        rows = [pair(write) for _ in range(pairs + held_out)]
        (place / "pairs.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
        setup = [sys.executable, "-c", SETUP, str(place), *map(str, (HIDDEN, LAYERS, held_out / len(rows)))]
        subprocess.run(setup, check=True, capture_output=True)
        found = ways(place, OPTIONS)
        runs = {way: results(folder) for way, (_, folder) in found.items()}
    same = [name for name, one in runs[SWEEP].items() if is_same(one, runs[CACHED][name])]
    online = max(abs(one["loss"] - runs[ONLINE][name]["loss"]) for name, one in runs[SWEEP].items())
    return {
        "ways": [
            {"way": way, "cpu_s": round(cpu, 1), "times_fewer": round(cpu / found[SWEEP][0], 2)}
            for way, (cpu, _) in found.items()
        ],
        "runs": len(runs[SWEEP]), "equal_runs": len(same), "largest_loss_difference_online": online,
        "steps": next(iter(runs[SWEEP].values()))["steps"], "pairs": pairs, "held_out": held_out,
    }  # fmt: skip


def is_same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(one[key] == other[key] for key in ("adapter", "scores", "steps", "loss"))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rehearse", action="store_true", help="measure the short runs alone, and write nothing")
    arguments = parser.parse_args()
    report = {
        "sizes": [measured(*size) for size in SIZES[: 1 if arguments.rehearse else None]],
        "base": f"Qwen2, hidden {HIDDEN}, {LAYERS} layers, float32",
        "machine": f"{os.cpu_count()} CPU cores ({platform.machine()}), one thread each, "
        f"Python {platform.python_version()}, torch {version('torch')}",
    }
    sys.stdout.write(json.dumps(report, indent=2) + "\n")
    if not arguments.rehearse:
        path = Path(__file__).with_name("sweep.json")
        path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        tables.put("bench-sweep", tables.sweep_table(report))


if __name__ == "__main__":
    main()
