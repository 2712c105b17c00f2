"""The commands of the README on bases of published sizes: train, kill, resume, push, verify, merge, evaluate."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from huggingface_hub import HfApi
from safetensors.torch import load_file

from hubdpo.loopback.server import LoopbackHub
from hubdpo.training.run.output_folder import MARKER
from tests.gpu.findings import Check, apart
from tests.gpu.models import SHAPES, raw_pairs, write_base

TOKEN = "hf_gpu_token"
KEPT_OF_RUN = ("status", "device", "steps", "train_seconds", "tokens_per_second", "peak_memory_bytes")
OPTIONS: dict[str, tuple[str, ...]] = {
    "defaults": (),
    "grouped": ("--group-prompts",),
    "dequantised": ("--dequantize-once", "--reference", "cached"),
}
ON_A_GPU: dict[str, tuple[str, ...]] = {
    "DoRA": ("--use-dora", "--no-load-in-4bit"),
    "Liger": ("--use-liger-kernel",),
    "8-bit": ("--optim", "adamw_8bit"),
    "paged": ("--optim", "paged_adamw_8bit"),
}


class Commands:
    """Runs `hubdpo` in processes of its own against a loopback Hub; the end of what each says is a finding."""

    def __init__(self, check: Check, endpoint: str) -> None:
        self.check = check
        self.environment = {
            **os.environ, "HF_ENDPOINT": endpoint, "HF_TOKEN": TOKEN, "HF_HOME": str(check.scratch / "hf"),
            "HUBDPO_CACHE": str(check.scratch / "cache"), "HF_HUB_DISABLE_XET": "1",
        }  # fmt: skip

    def __call__(
        self, name: str, *args: object, limit: float = 120, kill_when: Callable[[], bool] | None = None
    ) -> bool:
        """Run a command and return whether it ended well. `kill_when` true: SIGKILL."""
        began, log = time.monotonic(), self.check.scratch / f"{name.replace(' ', '-')}.log"
        command = [sys.executable, "-m", "hubdpo", *map(str, args)]
        killed = False
        with log.open("wb") as stream:
            process = subprocess.Popen(
                command, env=self.environment, stdout=stream, stderr=stream, start_new_session=True
            )
            while process.poll() is None:
                if time.monotonic() - began > limit or (kill_when and kill_when()):
                    killed = True
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
                time.sleep(0.02)
        expected = process.returncode == (-signal.SIGKILL if kill_when else 0)
        said = log.read_text(encoding="utf-8", errors="replace")
        self.check.find(
            command=name, ok=expected, rc=process.returncode, killed=killed,
            seconds=round(time.monotonic() - began, 1), said=said[-1800:],
        )  # fmt: skip
        return expected


@contextlib.contextmanager
def commands(check: Check) -> Iterator[Commands]:
    with LoopbackHub(check.scratch / "hub", tokens=[f"gpu:{TOKEN}:write"]) as hub:
        yield Commands(check, hub.endpoint)


def run(check: Check) -> None:
    """Train a 0.5B base with the defaults, publish the adapter, load it back, and use it."""
    with commands(check) as hubdpo, check.part("the road"):
        options = _base_and_data(check, hubdpo)
        whole, base = check.scratch / "whole", check.scratch / "base"
        hubdpo("train", "train", *options, "-o", whole)
        with check.part("run.json"):
            check.find(run=_of_manifest(whole), losses=losses_of(whole))
        with check.part("base to the Hub"):  # an adapter is published for a base on the Hub
            api = HfApi(endpoint=hubdpo.environment["HF_ENDPOINT"], token=TOKEN)
            api.create_repo("gpu/base")
            api.upload_folder(repo_id="gpu/base", folder_path=base)
        hubdpo("push", "push", whole, "gpu/adapter", "--version", "0.1.0", "--base-model", "gpu/base",
               "--license", "mit")  # fmt: skip
        hubdpo("verify", "verify", "gpu/adapter@v0.1.0")
        hubdpo("merge", "merge", whole, "-o", check.scratch / "merged", "--dtype", "bfloat16")
        # NF4 and the original weights, and answers drawn on the GPU, few enough for the time there is
        hubdpo("evaluate", "evaluate", whole, "--max-answers", "8", "--max-new-tokens", "32")
        hubdpo("doctor", "doctor")


def run_resume(check: Check) -> None:
    """Train a 0.5B base whole, and killed and resumed, with and without deterministic kernels."""
    scratch = check.scratch
    with commands(check) as hubdpo, check.part("kill and resume"):
        options = _base_and_data(check, hubdpo)

        def killed_and_resumed(name: str, *more: str) -> None:
            checkpoint = scratch / name / f"checkpoint-{options[options.index('--save-steps') + 1]}"
            hubdpo(f"train {name}", "train", *options, *more, "-o", scratch / name,
                   kill_when=(checkpoint / MARKER).exists)  # fmt: skip
            hubdpo(f"resume {name}", "train", *options, *more, "-o", scratch / name, "--resume")

        pairs_and_layers = ("--per-device-train-batch-size", "4", "--gradient-checkpointing")
        jobs: list[Callable[[], object]] = [
            lambda: killed_and_resumed("cut"),
            lambda: killed_and_resumed("exact-cut", "--deterministic"),
            lambda: hubdpo("train whole", "train", *options, "-o", scratch / "whole"),
            lambda: hubdpo("train exact", "train", *options, "--deterministic", "-o", scratch / "exact"),
            lambda: hubdpo("train by pairs", "train", *options, *pairs_and_layers, "-o", scratch / "pairs"),
        ]
        with ThreadPoolExecutor(1 if check.rehearse else len(jobs)) as pool:
            for job in [pool.submit(job) for job in jobs]:
                job.result()
        for name, one, other in (
            ("resumed", "cut", "whole"), ("resumed, deterministic", "exact-cut", "exact"),
            ("deterministic or not", "exact", "whole"), ("by pairs or by tokens", "pairs", "whole"),
        ):  # fmt: skip
            with check.part(f"adapters: {name}"):
                check.find(adapters=name, **_difference(scratch / one, scratch / other))


def run_options(check: Check) -> None:
    """Train a 0.5B base with options whose code is not that of the defaults, one by one and beside these."""
    options_of = OPTIONS if check.rehearse else OPTIONS | ON_A_GPU
    if not importlib.util.find_spec("liger_kernel"):
        options_of = {name: options for name, options in options_of.items() if name != "Liger"}
    with commands(check) as hubdpo, check.part("options"):
        options = _base_and_data(check, hubdpo, of_prompt=3)

        def train(name: str) -> None:
            hubdpo(f"train {name}", "train", *options, *options_of[name], "-o", check.scratch / name)

        with ThreadPoolExecutor(1 if check.rehearse else 3) as pool:
            for job in [pool.submit(train, name) for name in options_of]:
                job.result()
        defaults = losses_of(check.scratch / "defaults")
        for name in options_of:
            with check.part(f"options: {name}"):
                losses = losses_of(check.scratch / name)
                # a new adapter changes nothing, so every run starts at ln 2
                is_near = abs(losses[0] - math.log(2)) < 2e-2 and all(map(math.isfinite, losses))
                run = _of_manifest(check.scratch / name)
                check.find(options=name, ok=is_near, losses=losses, last_losses=[losses[-1], defaults[-1]], **run)


def _base_and_data(check: Check, hubdpo: Commands, *, of_prompt: int = 1) -> list[object]:
    """Write a base and a dataset, and return the options of a training run on them."""
    scratch, small = check.scratch, check.rehearse
    base = write_base(scratch / "base", SHAPES["tiny" if small else "Qwen2-0.5B"], check.device)
    if not small:
        torch.cuda.empty_cache()
    pairs, most = (64, 64) if small else (200, 256)
    raw_pairs(scratch / "raw.jsonl", pairs, most=most, of_prompt=of_prompt)
    hubdpo("prepare", "prepare", scratch / "raw.jsonl", "-o", scratch / "data", "--license", "mit",
           "--test-size", "0.1")  # fmt: skip
    return [
        "--model-name-or-path", base, "--dataset", scratch / "data", "--max-steps", 6 if small else 8, "--save-steps",
        3 if small else 4, "--eval-steps", 8, "--gradient-accumulation-steps", 2, "--learning-rate", "1e-4",
        "--max-length", 128 if small else 512, "--max-eval-pairs", 8, "--device", check.device,
    ]  # fmt: skip


def _of_manifest(run: Path) -> dict[str, object]:
    manifest = json.loads((run / "run.json").read_text(encoding="utf-8"))
    options = {name: manifest["config"].get(name) for name in ("tokens_per_batch", "checkpoint_layers")}
    return {key: manifest.get(key) for key in KEPT_OF_RUN} | options


def run_7b(check: Check) -> None:
    """Train the 7B base from shards on the disk with the defaults."""
    shape = SHAPES["tiny, untied" if check.rehearse else "Qwen2-7B"]
    with commands(check) as hubdpo, check.part("7B"):
        base, raw = write_base(check.scratch / "base", shape, check.device), check.scratch / "raw.jsonl"
        if not check.rehearse:
            torch.cuda.empty_cache()
        raw_pairs(raw, 64 if check.rehearse else 600, most=None if not check.rehearse else 64)
        share = "0.1" if check.rehearse else "0.02"
        hubdpo("prepare 7B", "prepare", raw, "-o", check.scratch / "data", "--license", "mit", "--test-size", share)
        common = [
            "--model-name-or-path", base, "--dataset", check.scratch / "data", "--max-steps", 4, "--save-steps", 4,
            "--eval-steps", 4, "--max-eval-pairs", 4, "--max-length", 128 if check.rehearse else 1024,
            "--gradient-accumulation-steps", 8, "--device", check.device,
        ]  # fmt: skip
        hubdpo("train 7B", "train", *common, "-o", check.scratch / "run")
        with check.part("run.json"):
            check.find(run_7b=_of_manifest(check.scratch / "run"), losses=losses_of(check.scratch / "run"))


def demo(check: Check) -> None:
    with commands(check) as hubdpo:
        hubdpo("demo", "demo", "--output-dir", check.scratch / "demo", limit=300)
        with check.part("run.json of the demo"):
            check.find(demo=_of_manifest(check.scratch / "demo" / "run"))


def losses_of(run: Path) -> list[float]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [line["loss"] for line in lines if "loss" in line]


def _difference(one: Path, other: Path) -> dict[str, object]:
    """Return how far two adapters are apart, beside what training has put into the second."""
    a, b = (load_file(run / "adapter_model.safetensors") for run in (one, other))
    assert a.keys() == b.keys()
    trained = [name for name in b if "lora_B" in name]  # zero before the first step
    flat_a, flat_b = (torch.cat([weights[name].flatten() for name in trained]) for weights in (a, b))
    files = [hashlib.sha256((run / "adapter_model.safetensors").read_bytes()).hexdigest()[:16] for run in (one, other)]
    losses = [losses_of(run) for run in (one, other)]
    return {
        "equal": all(torch.equal(a[name], b[name]) for name in a), "relative": apart(flat_a, flat_b),
        "largest": max(float((a[name] - b[name]).abs().max()) for name in a), "sha256": files,
        "losses_apart": max(abs(x - y) for x, y in zip(*losses, strict=True)), "losses": losses[1],
    }  # fmt: skip
