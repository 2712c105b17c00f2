"""Adapters of other families than Qwen2 are trained, published, verified, loaded and merged like those of Qwen2."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import HfApi
from safetensors.torch import load_file
from test_families import base_of
from transformers import AutoModelForCausalLM

from hubdpo import evaluate, load_adapter, merge, push, train, verify
from hubdpo.artefacts.manifests.evaluation import EvalReport
from hubdpo.artefacts.manifests.run import RunManifest
from tests.near import assert_near

pytestmark = pytest.mark.slow


def options(base: str | Path, data: Path, run: Path, **more: Any) -> dict[str, Any]:
    return {
        "model_name_or_path": str(base), "dataset": str(data), "output_dir": run, "max_steps": 4, "max_length": 128,
        "learning_rate": 1e-3, "gradient_accumulation_steps": 1, "save_steps": 2, "eval_steps": 2, **more,
    }  # fmt: skip


def log_probs(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(input_ids=torch.arange(40)[None]).logits.float().log_softmax(dim=-1)


@pytest.mark.parametrize("family", ["llama", "mistral", "gemma2", "phi3", "mixtral", "gpt2"])
def test_from_training_to_a_merged_model(
    family: str, tiny_base: Path, dataset_dir: Path, tmp_path: Path, repo_id: str, capsys: pytest.CaptureFixture[str]
) -> None:
    base, run, merged = base_of(family, tiny_base, tmp_path / "base"), tmp_path / "run", tmp_path / "merged"
    (base / "README.md").write_bytes((tiny_base / "README.md").read_bytes())
    HfApi().create_repo(f"{repo_id}-base")
    HfApi().upload_folder(repo_id=f"{repo_id}-base", folder_path=base)
    done = train(**options(f"{repo_id}-base", dataset_dir, run))
    assert (done.status, done.stock_forward) == ("complete", None)
    assert ("NF4 leaves the experts of" in capsys.readouterr().err) is (family == "mixtral")
    evaluate(model=run, max_answers=0)
    assert EvalReport.read(run / "eval.json").pairs == done.dataset.test_pairs
    push(folder=run, repo=repo_id, version="0.1.0")
    verify(ref=f"{repo_id}@v0.1.0")
    adapter = load_adapter(repo_id, revision="v0.1.0").model
    merge(adapter=str(run), output_dir=merged, dtype="float32")
    found = log_probs(AutoModelForCausalLM.from_pretrained(merged))
    assert_near(found, log_probs(adapter), share=1e-5)


def test_a_run_that_fell_back_is_resumed_the_same_way_bit_by_bit(
    tiny_base: Path, dataset_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, run, whole = base_of("lfm2", tiny_base, tmp_path / "base"), tmp_path / "run", tmp_path / "whole"
    train(**options(base, dataset_dir, whole))
    assert "`lfm2` runs TRL's own forward pass" in capsys.readouterr().err
    manifest = RunManifest.read(whole / "run.json")
    assert "differ by" in (manifest.stock_forward or "")
    assert manifest.config["shared_prefix"] is False
    train(**options(base, dataset_dir, run, max_steps=2))
    resumed = train(**options(base, dataset_dir, run, extend=True, resume=True))
    assert (resumed.stock_forward, resumed.changes[0].values.keys()) == (
        manifest.stock_forward,
        {"max_steps", "planned_steps"},
    )
    weights = [load_file(folder / "adapter_model.safetensors") for folder in (whole, run)]
    assert weights[0].keys() == weights[1].keys()
    assert json.loads((run / "adapter_config.json").read_text())["target_modules"]


def test_a_run_that_named_its_layers_is_resumed_with_all_linear(
    tiny_base: Path, dataset_dir: Path, tmp_path: Path
) -> None:
    from families import QWEN2_PROJECTIONS

    run = tmp_path / "run"
    train(**options(tiny_base, dataset_dir, run, max_steps=2, lora_target_modules=list(QWEN2_PROJECTIONS)))
    before = json.loads((run / "adapter_config.json").read_text())
    resumed = train(**options(tiny_base, dataset_dir, run, extend=True, resume=True))
    assert resumed.config["lora_target_modules"] == list(QWEN2_PROJECTIONS)
    assert json.loads((run / "adapter_config.json").read_text()) == before
