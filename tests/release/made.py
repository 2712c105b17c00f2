"""Run folders made by hand, of any size, that `push` accepts: random LoRA weights and what goes with them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from huggingface_hub import HfApi
from safetensors.numpy import load_file, save_file

from hubdpo.artefacts.folders.kinds import RUN_FILES, entries_of
from hubdpo.artefacts.manifests.manifest import RUN_FILE
from hubdpo.artefacts.manifests.run import BaseRef, DatasetRef, RunManifest
from hubdpo.config import TrainConfig

RANK = 16
WEIGHTS = "adapter_model.safetensors"


def made_base(repo: str) -> BaseRef:
    """Put a base on the Hub that has a commit to name, and no weights."""
    HfApi().create_repo(repo, exist_ok=True)
    done = HfApi().upload_file(path_or_fileobj=b'{"model_type": "qwen2"}', path_in_repo="config.json", repo_id=repo)
    return BaseRef(name=repo, repo_id=repo, revision=done.oid, license="apache-2.0")


def made_run(folder: Path, base: BaseRef, *, megabytes: float, seed: int = 0) -> Path:
    """Write a finished run whose weights, in float32 and random, take that many megabytes."""
    draw = np.random.default_rng(seed)
    layers, width = 4, max(int(megabytes * 1e6 / 4 / (4 * 2 * RANK)), 8)
    weights = {}
    for layer in range(layers):
        name = f"base_model.model.model.layers.{layer}.self_attn.q_proj"
        weights[f"{name}.lora_A.weight"] = draw.normal(size=(RANK, width)).astype(np.float32)
        weights[f"{name}.lora_B.weight"] = draw.normal(size=(width, RANK)).astype(np.float32)
    folder.mkdir(parents=True)
    save_file(weights, folder / WEIGHTS)
    config = {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": base.repo_id, "r": RANK,
        "lora_alpha": 2 * RANK, "target_modules": ["q_proj"],
    }  # fmt: skip
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "tokenizer.json").write_text(json.dumps({"version": "1.0"}), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": "{{ messages }}"}), encoding="utf-8")
    options = TrainConfig.build({"model_name_or_path": base.name, "dataset": "pairs", "output_dir": "run"})
    RunManifest(
        hubdpo_version="0", status="complete",
        config=options.model_dump(mode="json"),
        dataset=DatasetRef(name="pairs", fingerprint="0" * 64, license="mit", train_pairs=1, test_pairs=1),
        base=base, versions={}, device="cpu", seed=seed,
    ).write(folder / RUN_FILE)  # fmt: skip
    return folder


def scale_adapter(run: Path, factor: float) -> None:
    """Scale what the adapter adds, as if the run had trained it so."""
    weights = load_file(run / WEIGHTS)
    save_file({name: value * (factor if "lora_B" in name else 1) for name, value in weights.items()}, run / WEIGHTS)
    record_files(run)


def record_files(run: Path) -> None:
    """Let a run have written the files that are there now."""
    manifest = RunManifest.read(run / RUN_FILE)
    manifest.model_copy(update={"files": entries_of(run, RUN_FILES)}).write(run / RUN_FILE)


def forget_files(run: Path) -> None:
    """Make a run one of hubdpo 0.3, which recorded no hashes."""
    RunManifest.read(run / RUN_FILE).model_copy(update={"files": {}}).write(run / RUN_FILE)
