"""Measure what `train` takes before its first step on 10,000, 100,000 and 1,000,000 pairs: seconds, CPU and memory.

Each figure is of a new process: cold starts have an empty cache, warm ones what the process before left. `make
bench-memory` writes memory.json beside this file. `--before DIR --sizes 10000 100000` measures a checkout of an earlier
version in DIR, whose figures are kept beside those of this one.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import random
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from hubdpo import console
from hubdpo.artefacts.formats.messages import COLUMNS, schema
from hubdpo.artefacts.manifests.manifest import PREPARE_FILE, file_entry
from hubdpo.artefacts.manifests.prepare import Funnel, PrepareManifest
from hubdpo.demo.tiny_base import make_tiny_base
from tests.benchmarks import tables

HERE = Path(__file__).parent
CHILD = HERE / "before_step_one.py"
REPORT = HERE / "memory.json"
REAL_TOKENIZER = Path(os.environ.get("HUBDPO_REAL_DATA", HERE.parents[2] / "shared" / "data")) / "qwen2-tokenizer"
SIZES = [10_000, 100_000, 1_000_000]
STARTS = (("online", "cold"), ("online", "warm"), ("cached", "warm"))
FEW = 100
"""Pairs of the start whose memory is that of libraries and model."""
PHRASES = {"prompt": 8, "chosen": 15, "rejected": 14}
"""Phrases of a text: with Qwen2's tokenizer and template a pair has about 450 tokens in its two sequences."""
ROWS_PER_SHARD, ROWS_PER_GROUP = 125_000, 1000


def phrases(count: int = 20_000, words: int = 8) -> list[str]:
    """Return phrases of words that this project's own texts have."""
    text = "".join((HERE.parents[1] / name).read_text(encoding="utf-8") for name in ("README.md", "CHANGELOG.md"))
    known = sorted(set(re.findall(r"\b[a-z]{2,12}\b", text)))
    chance = random.Random(0)
    return [" ".join(chance.choices(known, k=words)) for _ in range(count)]


def rows(pairs: int) -> Iterator[dict[str, list[dict[str, str]]]]:
    pool, chance = phrases(), random.Random(1)
    roles = {"prompt": "user", "chosen": "assistant", "rejected": "assistant"}
    for number in range(pairs):
        texts = {name: " ".join(chance.choices(pool, k=PHRASES[name])) for name in COLUMNS}
        yield {name: [{"role": roles[name], "content": f"{number} {texts[name]}"}] for name in COLUMNS}


def make_dataset(folder: Path, pairs: int) -> Path:
    """Write a dataset as `prepare` does, without its work."""
    (folder / "data").mkdir(parents=True)
    shards, source, kind = -(-pairs // ROWS_PER_SHARD), rows(pairs), schema([])
    for shard in range(shards):
        path = folder / "data" / f"train-{shard:05d}-of-{shards:05d}.parquet"
        with pq.ParquetWriter(path, kind, compression="snappy") as writer:
            of_shard = itertools.islice(source, ROWS_PER_SHARD)
            while group := list(itertools.islice(of_shard, ROWS_PER_GROUP)):
                writer.write_batch(pa.RecordBatch.from_pylist(group, kind))
    files = {f"data/{path.name}": file_entry(path) for path in sorted((folder / "data").iterdir())}
    PrepareManifest(
        hubdpo_version="0.4.0", converter="preference", detected=True, sources=[], config={},
        funnel=Funnel(read=pairs, kept=pairs), splits={"train": pairs}, fingerprint=f"{pairs:064x}", files=files,
    ).write(folder / PREPARE_FILE)  # fmt: skip
    return folder


def measure(package: Path, base: Path, dataset: Path, cache: Path, reference: str) -> dict[str, Any]:
    env = {
        **os.environ, "PYTHONPATH": str(package), "HUBDPO_CACHE": str(cache), "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as place:
        command = [sys.executable, str(CHILD), str(base), str(dataset), f"{place}/run", reference]
        done = subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def starts(package: Path, base: Path, place: Path, sizes: list[int]) -> list[dict[str, Any]]:
    """Measure STARTS for every size, above what a process takes for a few pairs."""
    few = make_dataset(place / "few", FEW)
    plain = [measure(package, base, few, place / "few-cache", "online") for _ in range(2)][1]
    found = []
    for size in sizes:
        dataset, cache = make_dataset(place / str(size), size), place / "cache"
        for reference, start in STARTS:
            if reference == "cached":  # plant the reference first
                measure(package, base, dataset, cache, reference)
            figures = measure(package, base, dataset, cache, reference)
            found.append({"pairs": size, "reference": reference, "start": start, **figures, **above(figures, plain)})
            console.info(json.dumps(found[-1]))
        shutil.rmtree(cache)
        shutil.rmtree(dataset)
    return found


def above(figures: dict[str, Any], plain: dict[str, Any]) -> dict[str, int]:
    return {f"above_{name}": max(figures[name] - plain[name], 0) for name in ("peak_mb", "anonymous_mb")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--before", type=Path)
    options = parser.parse_args()
    report = json.loads(REPORT.read_text(encoding="utf-8")) if REPORT.exists() else {}
    with tempfile.TemporaryDirectory(prefix="hubdpo-bench-") as folder:
        place = Path(folder)
        real = REAL_TOKENIZER if REAL_TOKENIZER.is_dir() else None
        base = make_tiny_base(place / "base", tokenizer=real)
        package = options.before or HERE.parents[1]
        key = "before" if options.before else "results"
        report[key] = starts(package.resolve(), base, place, options.sizes)
    report["machine"] = f"{len(os.sched_getaffinity(0))} cores, Python {platform.python_version()}"
    report["tokenizer"] = "Qwen2's" if real else "a small one"
    REPORT.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    tables.put("bench-memory", tables.memory_table(report))


if __name__ == "__main__":
    main()
