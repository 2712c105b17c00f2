"""Time `hubdpo prepare` beside the usual way on generated data, in one interleaved run, and tokens beside TRL's way.

The ratios are the result: seconds differ from machine to machine. `make bench-prepare` writes prepare.json beside it.
Options: --megabytes 250, --repeats 3, --growth 1000 (the larger input of the memory test; 0 leaves it out).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

sys.path.insert(0, str(Path(__file__).parents[2]))

from hubdpo import console  # noqa: E402
from tests.benchmarks import raw_data, tables  # noqa: E402

HERE = Path(__file__).parent
OURS = (
    "import sys, time; from hubdpo import prepare; began = time.perf_counter(); "
    "prepare(source=sys.argv[2], output_dir=sys.argv[3] + '/data'); "
    "sys.stdout.write(f'{time.perf_counter() - began}\\n')"
)
WAYS = {"usual": [str(HERE / "usual_way.py")], "hubdpo": ["-c", OURS], "floor": [str(HERE / "floor.py")]}
REAL_TOKENIZER = Path(os.environ.get("HUBDPO_REAL_DATA", HERE.parents[2] / "shared" / "data")) / "qwen2-tokenizer"
PAIRS = 5000


def run(way: str, shape: str, source: Path, place: Path) -> dict[str, float]:
    """Run a way in a process of its own; return seconds of work, of the whole process, of CPU, and peak memory."""
    folder = place / "out"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    env = {**os.environ, "HF_HOME": str(place / "hf"), "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(HERE.parents[1])}
    began = time.perf_counter()
    command = [sys.executable, *WAYS[way], shape, str(source), str(folder)]
    before = psutil.Process().cpu_times()
    process = psutil.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    peak = 0
    while process.poll() is None:
        peak = max(peak, _memory(process))
        time.sleep(0.2)  # a look takes the processor from those who are measured
    output = process.stdout.read()
    wall = time.perf_counter() - began
    after = psutil.Process().cpu_times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    if process.returncode:
        raise SystemExit(f"{way} failed on {shape}")
    return {"work_s": float(output.split()[-1]), "wall_s": wall, "cpu_s": cpu, "peak_mb": peak / 1e6}


def _memory(process: psutil.Process) -> int:
    """Return the proportional set size of a process and its children: pages that they share count once."""
    total = 0
    try:
        for member in (process, *process.children(recursive=True)):
            total += member.memory_full_info().pss
    except psutil.Error:
        return 0
    return total


def compare(shape: str, place: Path, megabytes: int, repeats: int) -> dict[str, Any]:
    source = place / f"{shape}.jsonl"
    rows = raw_data.generate(shape, source, megabytes * 10**6)
    runs: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for _ in range(repeats):
        for way, found in runs.items():
            found.append(run(way, shape, source, place))
    result: dict[str, Any] = {"shape": shape, "rows": rows, "megabytes": megabytes}
    for way, found in runs.items():
        best = min(found, key=lambda one: one["work_s"])
        result[way] = {
            "rows_per_s": round(rows / best["work_s"]), **{name: round(value, 2) for name, value in best.items()},
            "peak_mb": round(max(one["peak_mb"] for one in found)),
        }  # fmt: skip
    for name in ("work_s", "wall_s", "cpu_s"):
        result[f"ratio_{name[:-2]}"] = round(result["usual"][name] / result["hubdpo"][name], 2)
        result[f"floor_ratio_{name[:-2]}"] = round(result["usual"][name] / result["floor"][name], 2)
    source.unlink()
    return result


def growth(place: Path, small: int, large: int) -> dict[str, Any]:
    """Return peak memory on a small and a large input of the same shape."""
    peaks = {}
    for megabytes in (small, large):
        source = place / "growth.jsonl"
        raw_data.generate("question-answers", source, megabytes * 10**6)
        peaks[megabytes] = max(run("hubdpo", "question-answers", source, place)["peak_mb"] for _ in range(2))
        source.unlink()
    return {
        "megabytes": [small, large], "peak_mb": [round(peaks[small]), round(peaks[large])],
        "growth": round(peaks[large] / peaks[small] - 1, 3),
    }  # fmt: skip


def tokens() -> dict[str, Any] | None:
    """Time 5,000 pairs to ids by our encoder and by rendering and encoding three conversations a pair, as TRL does."""
    if not REAL_TOKENIZER.is_dir():
        return None
    from transformers import AutoTokenizer

    from hubdpo.data.converters.formats import hh_rlhf
    from hubdpo.data.tokens.encoder import ChatEncoder

    tokenizer = AutoTokenizer.from_pretrained(REAL_TOKENIZER)
    write = raw_data.Writer(1)
    pairs = [hh_rlhf.convert(raw_data.transcripts(write)) for _ in range(PAIRS)]
    encoder = ChatEncoder(tokenizer)
    seconds: dict[str, list[float]] = {"trl": [], "hubdpo": []}
    found: dict[str, list[Any]] = {}
    for _ in range(2):
        for way, encode in (("hubdpo", encoder), ("trl", tokenizer)):
            began = time.process_time()
            found[way] = [_ours(encode, pair) if way == "hubdpo" else _as_trl(encode, pair) for pair in pairs]
            seconds[way].append(time.process_time() - began)
    return {
        "pairs": PAIRS, "differing": sum(a != b for a, b in zip(found["hubdpo"], found["trl"], strict=True)),
        **{f"{way}_pairs_per_cpu_s": round(PAIRS / min(values)) for way, values in seconds.items()},
        "ratio": round(min(seconds["trl"]) / min(seconds["hubdpo"]), 2),
    }  # fmt: skip


def _ours(encoder: Any, pair: Any) -> tuple[list[int], list[int], list[int]]:
    prompt = encoder.prompt(pair.prompt)
    return prompt, encoder.answered(pair.prompt, pair.chosen).ids, encoder.answered(pair.prompt, pair.rejected).ids


def _as_trl(tokenizer: Any, pair: Any) -> tuple[list[int], list[int], list[int]]:
    def ids(messages: Any, **options: Any) -> list[int]:
        found: list[int] = tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False, **options)
        return found

    prompt = ids(pair.prompt, add_generation_prompt=True)
    chosen, rejected = ids(pair.prompt + pair.chosen), ids(pair.prompt + pair.rejected)
    return prompt, chosen[len(prompt) :], rejected[len(prompt) :]


def main() -> None:
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # as the command line has it
    parser = argparse.ArgumentParser()
    for name, default in (("megabytes", 250), ("repeats", 3), ("growth", 1000)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hubdpo-bench-") as name:
        place = Path(name)
        shapes = [compare(shape, place, options.megabytes, options.repeats) for shape in raw_data.SHAPES]
        result = {
            "machine": f"{os.cpu_count()} CPU cores ({platform.machine()}), Python {platform.python_version()}",
            "versions": {name: version(name) for name in ("datasets", "pyarrow", "orjson", "trl", "tiktoken")},
            "shapes": shapes,
            "memory": growth(place, options.megabytes, options.growth) if options.growth else None,
            "tokens": tokens(),
        }
    (HERE / "prepare.json").write_text(json.dumps(result, indent=2) + "\n")
    tables.put("bench-prepare", tables.prepare_table(result))
    for shape in shapes:
        console.info(f"{shape['shape']}: {shape['ratio_work']} times the rows/s, {shape['hubdpo']['peak_mb']} MB")
    console.info(f"median ratio {statistics.median(shape['ratio_work'] for shape in shapes)}")


if __name__ == "__main__":
    main()
