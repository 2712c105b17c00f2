"""`--dtype`: the type of base and computation is chosen, recorded, and used wherever the adapter is loaded again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from hubdpo import evaluate, load_adapter, merge, push, train
from hubdpo.artefacts.manifests.evaluation import Probes
from hubdpo.config import TrainConfig
from hubdpo.errors import ConfigError, ResumeMismatch
from hubdpo.model.device import compute_dtype

NAMES = {"model_name_or_path": "x/y", "dataset": "d", "output_dir": "r"}


@pytest.mark.slow
def test_a_run_in_bfloat16_is_evaluated_published_and_merged_in_it(
    tiny_base_repo: str, dataset_dir: Path, tmp_path: Path, repo_id: str
) -> None:
    run = tmp_path / "run"
    chosen: dict[str, Any] = {
        "model_name_or_path": tiny_base_repo, "dataset": dataset_dir, "output_dir": run, "max_steps": 2,
        "max_length": 128, "learning_rate": 1e-3, "save_steps": 1, "dtype": "bfloat16", "load_in_4bit": False,
        "gradient_accumulation_steps": 1,
    }  # fmt: skip
    assert train(**chosen).config["dtype"] == "bfloat16"
    assert Probes.read(run / "probes.json").environment["dtype"] == "bfloat16"
    assert {weight.dtype for weight in load_file(run / "adapter_model.safetensors").values()} == {torch.float32}
    evaluate(run, max_answers=0)
    assert Probes.read(run / "probes.json").environment["dtype"] == "bfloat16"
    loaded = load_adapter(run).model
    assert loaded.get_base_model().get_input_embeddings().weight.dtype == torch.bfloat16
    weights, stored = dict(loaded.named_parameters()), load_file(run / "adapter_model.safetensors")
    assert all(torch.equal(weights[name.replace(".weight", ".default.weight")], stored[name]) for name in stored)
    with pytest.raises(ResumeMismatch, match="dtype"):
        train(**(chosen | {"dtype": "auto"}), resume=True)
    push(run, repo_id, version="0.1.0")  # loads it, and compares its log-probabilities to the bit
    assert "; computed in bfloat16 |" in (run / "README.md").read_text()
    merge(adapter=run, output_dir=tmp_path / "merged", dtype="float32")


def test_float16_is_refused_with_the_reason() -> None:
    with pytest.raises(ConfigError, match="float16 gave losses that are not finite in DPO"):
        TrainConfig.build({**NAMES, "dtype": "float16"})
    assert TrainConfig.build({**NAMES, "dtype": torch.float32}).dtype == "float32"


def test_bfloat16_needs_a_gpu_that_computes_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    with pytest.raises(ConfigError, match="does not compute in bfloat16"):
        compute_dtype("cuda", "bfloat16")
    assert compute_dtype("cpu", "bfloat16") == torch.bfloat16
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    assert [compute_dtype("cuda", wanted) for wanted in ("auto", "float32")] == [torch.bfloat16, torch.float32]
