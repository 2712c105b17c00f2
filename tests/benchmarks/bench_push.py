"""Time `hubdpo push` beside a bare upload of the same adapter of 100 MB, on a Hub on this machine, by LFS and by Xet.

The bare way is `HfApi.upload_folder` and `create_tag`: nothing is read back. hubdpo downloads what it sent into an
empty cache and compares it, and without `--check hashes` loads it on its base. Each run meets a Hub that has the base
alone and a client that has it cached, as after training; the ways take turns. Seconds run from the call to its end,
with what it imports. `make bench-push` writes push.json beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))
os.environ["HF_HUB_DISABLE_XET"] = "1"

from hubdpo.loopback.server import LoopbackHub  # noqa: E402
from tests.benchmarks import tables  # noqa: E402

HIDDEN, LAYERS, RANK = 1024, 4, 381  # a rank that makes 100 MB of float32 on so small a base
BASE, REPO, TOKEN = "bench/base", "bench/adapter", "hf_bench"
LARGE = 1_000_000
WAYS = ("upload_folder, create_tag", "hubdpo push --check hashes", "hubdpo push")
AGAIN = "the same push again"
CLIENT = """
import json, sys, time
from huggingface_hub import HfApi
import hubdpo
folder, repo, way, files = sys.argv[1], sys.argv[2], sys.argv[3], json.loads(sys.argv[4])
began = time.perf_counter()
if way.startswith("hubdpo"):
    hubdpo.push(folder=folder, repo=repo, version="1.0.0", check="hashes" if "hashes" in way else "load")
else:
    api = HfApi()
    api.create_repo(repo)
    api.upload_folder(repo_id=repo, folder_path=folder, allow_patterns=files)
    api.create_tag(repo, tag="v1.0.0")
print(time.perf_counter() - began)
"""
SETUP = """
import json, sys
from pathlib import Path
from huggingface_hub import HfApi
import hubdpo
from hubdpo.demo.tiny_base import make_tiny_base
scratch, hidden, layers, rank, base, repo = Path(sys.argv[1]), *map(int, sys.argv[2:5]), *sys.argv[5:]
make_tiny_base(scratch / "base", hidden_size=hidden, num_layers=layers)
HfApi().create_repo(base)
HfApi().upload_folder(repo_id=base, folder_path=scratch / "base")
rows = [{"prompt": f"What is {i}?", "chosen": f"It is {i}, gladly.", "rejected": "No idea."} for i in range(8)]
(scratch / "pairs.jsonl").write_text("".join(json.dumps(row) + "\\n" for row in rows))
hubdpo.prepare(source=[str(scratch / "pairs.jsonl")], output_dir=scratch / "data", license="mit", test_size=0)
hubdpo.train(
    model_name_or_path=base, dataset=str(scratch / "data"), output_dir=scratch / "run", max_steps=4, lora_r=rank,
    max_length=64, gradient_accumulation_steps=1, per_device_train_batch_size=1,
)
print(json.dumps(hubdpo.push(folder=scratch / "run", repo=repo, version="1.0.0", dry_run=True).files))
"""


def link_large(source: str, target: str) -> None:
    if Path(source).stat().st_size > LARGE:
        os.link(source, target)
    else:
        shutil.copy2(source, target)


def python(scratch: Path, server: LoopbackHub, mode: str, code: str, *given: object) -> str:
    """Run a client whose Xet cache is empty, and return the last line that it printed."""
    shutil.rmtree(scratch / "xet-cache", ignore_errors=True)
    environment = {
        **os.environ, "HF_ENDPOINT": server.endpoint, "HF_TOKEN": TOKEN, "HF_HOME": str(scratch / "home"),
        "HF_XET_CACHE": str(scratch / "xet-cache"), "HUBDPO_CACHE": str(scratch / "cache"),
        "HF_HUB_DISABLE_PROGRESS_BARS": "1", "PYTHONPATH": str(Path(__file__).parents[2]),
    }  # fmt: skip
    if mode == "Xet":
        environment.pop("HF_HUB_DISABLE_XET")
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, given)], env=environment, capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    return done.stdout.splitlines()[-1]


def measured(scratch: Path, server: LoopbackHub, mode: str, way: str, files: str) -> dict[str, Any]:
    server.requests.clear()
    seconds = float(python(scratch, server, mode, CLIENT, scratch / "sent", REPO, way, files))
    asked = list(server.requests)
    return {
        "seconds": round(seconds, 2), "requests": len(asked), "sent_mb": round(sum(r.received for r in asked) / 1e6, 2),
        "read_mb": round(sum(r.sent for r in asked) / 1e6, 2),
        "writes": sum(r.method in ("PUT", "DELETE") or "/commit/" in r.path for r in asked),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    best: dict[tuple[str, str], dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        with LoopbackHub(scratch / "hub", tokens=[f"bench:{TOKEN}"]) as server:
            files = python(scratch, server, "LFS", SETUP, scratch, HIDDEN, LAYERS, RANK, BASE, REPO)
        size = (scratch / "run" / "adapter_model.safetensors").stat().st_size
        for _ in range(rounds):
            for mode in ("LFS", "Xet"):
                for way in WAYS:
                    for name, source in (("hub-now", "hub"), ("sent", "run")):
                        shutil.rmtree(scratch / name, ignore_errors=True)
                        shutil.copytree(scratch / source, scratch / name, copy_function=link_large)
                    with LoopbackHub(scratch / "hub-now") as server:
                        found = {way: measured(scratch, server, mode, way, files)}
                        if way == WAYS[-1]:
                            found[AGAIN] = measured(scratch, server, mode, way, files)
                    for name, row in found.items():
                        known = best.get((mode, name))
                        best[mode, name] = row if known is None or row["seconds"] < known["seconds"] else known
    results = [{"by": mode, "way": way, **best[mode, way]} for mode in ("LFS", "Xet") for way in (*WAYS, AGAIN)]
    if sent := [row for row in results if row["way"] == AGAIN and (row["writes"] or row["sent_mb"] > 0.1)]:
        raise SystemExit(f"a repeated push wrote: {sent}")
    packages = ("huggingface_hub", "hf_xet", "torch", "transformers", "peft")
    report = {
        "adapter_mb": round(size / 1e6, 1), "rounds": rounds,
        "base": f"Qwen2, hidden {HIDDEN}, {LAYERS} layers, NF4",
        "machine": f"{os.cpu_count()} CPU cores ({platform.machine()}), Python {platform.python_version()}",
        "versions": {name: version(name) for name in packages}, "results": results,
    }  # fmt: skip
    (Path(__file__).parent / "push.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    tables.put("bench-push", tables.push_table(report))
    json.dump(report, sys.stdout, indent=2)


if __name__ == "__main__":
    main()
