"""Measure `hubdpo view` on 10,000, 100,000 and 1,000,000 pairs: seconds to a page, and the server's peak memory.

Each size has a new server. Pages are asked for at once after it says its address, and searches again when the index is
whole. `make bench-view` writes view.json beside this file.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

from hubdpo import console
from tests.benchmarks import tables
from tests.benchmarks.bench_memory import SIZES, make_dataset

REPORT = Path(__file__).parent / "view.json"
TRIES = 5
RARE, COMMON = "zqxjunk", "gradient"
"""A text that no row has, for which all rows count, and one that the first rows have."""


def dropped_too(folder: Path, rows: int) -> None:
    """Write as many dropped rows as the dataset has pairs, of which every thousandth has another reason."""
    manifest = json.loads((folder / "prepare.json").read_text(encoding="utf-8"))
    with (folder / "rejected.jsonl").open("w", encoding="utf-8") as file:
        for line in range(rows):
            reason = "tie" if line % 1000 == 0 else "duplicate_pair"
            file.write(f'{{"source":"pairs.jsonl","line":{line},"reason":"{reason}"}}\n')
    ties = -(-rows // 1000)
    manifest["funnel"] |= {"read": 2 * rows, "dropped": {"tie": ties, "duplicate_pair": rows - ties}}
    (folder / "prepare.json").write_text(json.dumps(manifest), encoding="utf-8")


def seconds(address: str) -> float:
    started = time.perf_counter()
    with urllib.request.urlopen(address) as answer:
        answer.read()
    return round(time.perf_counter() - started, 3)


def middle(address: str) -> float:
    return sorted(seconds(address) for _ in range(TRIES))[TRIES // 2]


def measure(folder: Path, pairs: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "hubdpo", "view", str(folder), "--no-open"]
    started = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        assert server.stdout is not None
        address = server.stdout.readline().strip()
        row: dict[str, Any] = {"pairs": pairs, "start_s": round(time.perf_counter() - started, 2)}
        row["first_page_s"] = seconds(address)
        indexing = time.perf_counter()
        row["search_while_indexing_s"] = seconds(f"{address}?q={RARE}")
        while "looked at so far" in urllib.request.urlopen(f"{address}?q={RARE}").read().decode():
            pass
        while "Counting again" in urllib.request.urlopen(f"{address}numbers").read().decode():
            time.sleep(0.5)
        row["index_s"] = round(time.perf_counter() - indexing, 1)
        last = pairs - 20
        pages = {
            "page": f"?from={pairs // 2}", "last_page": f"?from={last}", "row": f"viewer?row={last}",
            "rare_search": f"?q={RARE}", "common_search": f"?q={COMMON}", "number_search": f"?q={last}+",
            "filter": "?longer=rejected&least=2700", "dropped": "dropped", "dropped_reason": "dropped?reason=tie",
        }  # fmt: skip
        row |= {f"{name}_s": middle(address + path) for name, path in pages.items()}
        memory = Path(f"/proc/{server.pid}/status").read_text(encoding="ascii")
        row["peak_mb"] = int(next(line for line in memory.splitlines() if line.startswith("VmHWM")).split()[1]) // 1024
        server.terminate()
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    options = parser.parse_args()
    results = []
    for pairs in options.sizes:
        with tempfile.TemporaryDirectory(prefix="hubdpo-bench-") as place:
            folder = make_dataset(Path(place) / "data", pairs)
            dropped_too(folder, pairs)
            results.append(measure(folder, pairs))
            console.info(json.dumps(results[-1]))
    machine = f"{len(os.sched_getaffinity(0))} cores, Python {platform.python_version()}"
    report = {"machine": machine, "results": results}
    REPORT.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    tables.put("bench-view", tables.view_table(report))


if __name__ == "__main__":
    main()
