"""rsLoRA, DoRA, chosen layers and initial values: PEFT's, equal to TRL with PEFT, through a whole run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from killed import killed_copy
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file
from transformers import AutoTokenizer

from hubdpo import merge, push, train
from hubdpo.config import TrainConfig
from hubdpo.data.encoded.rows import TokenRows
from hubdpo.errors import ConfigError
from hubdpo.model.bases.load import load_base
from hubdpo.training.step.trainer import SharedPrefixDPOTrainer, make_trainer
from tests.near import assert_same_step
from tests.training.test_families import step_of
from tests.training.test_shared_prefix import pairs

NAMES = {"model_name_or_path": "x/y", "dataset": "d", "output_dir": "r"}
KINDS: dict[str, dict[str, Any]] = {
    "rsLoRA": {"use_rslora": True}, "DoRA": {"use_dora": True}, "both": {"use_dora": True, "use_rslora": True},
    "one layer": {"layers_to_transform": [1]}, "gaussian": {"init_lora_weights": "gaussian"},
}  # fmt: skip


def trainer_of(base: Path, folder: Path, data: Dataset, **chosen: Any) -> SharedPrefixDPOTrainer:
    config = TrainConfig.build({
        **NAMES, "model_name_or_path": base, "output_dir": folder, "lora_r": 4, "lora_alpha": 8, "device": "cpu",
        "per_device_train_batch_size": len(data), "gradient_checkpointing": False, **chosen,
    })  # fmt: skip
    model = load_base(base, device="cpu", load_in_4bit=config.load_in_4bit)
    tokenizer = AutoTokenizer.from_pretrained(base)
    return make_trainer(config, model, tokenizer, TokenRows.of(data), None, device="cpu", steps=1, callbacks=[])


@pytest.mark.slow
@pytest.mark.parametrize("nf4", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_step_is_that_of_trl_and_peft(tiny_base: Path, tmp_path: Path, kind: str, nf4: bool) -> None:
    trainer = trainer_of(tiny_base, tmp_path, pairs("skewed", 4), load_in_4bit=nf4, **KINDS[kind])
    draw = torch.Generator().manual_seed(1)
    for name, weight in trainer.model.named_parameters():
        if "lora_A" in name or "lora_B" in name:
            weight.data = torch.randn(weight.shape, generator=draw) * 0.05
    ours = step_of(trainer, "skewed", 4, checkpointing=False)
    trainer.shared_prefix, trainer.fused_lora.active, trainer.fused_norms.active = None, False, False  # type: ignore[union-attr]
    theirs = step_of(trainer, "skewed", 4, checkpointing=False)
    assert_same_step(ours, theirs)
    assert ("lora_magnitude_vector" in str(ours[2].keys())) is bool(KINDS[kind].get("use_dora"))


def test_pefts_configuration_is_asked_for(tiny_base: Path, tmp_path: Path) -> None:
    data = pairs("equal", 1)
    model = trainer_of(tiny_base, tmp_path, data, use_rslora=True, layers_to_transform=[1], load_in_4bit=False).model
    layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, LoraLayer)}
    assert all(".layers.1." in name for name in layers)
    assert {layer.scaling["default"] for layer in layers.values()} == {8 / 4**0.5}


@pytest.mark.slow
def test_a_dora_run_is_resumed_published_and_merged(
    tiny_base_repo: str, dataset_dir: Path, tmp_path: Path, repo_id: str
) -> None:
    chosen: dict[str, Any] = {
        "model_name_or_path": tiny_base_repo, "dataset": dataset_dir, "max_steps": 3, "max_length": 128,
        "learning_rate": 1e-3, "gradient_accumulation_steps": 1, "save_steps": 1, "use_dora": True, "use_rslora": True,
    }  # fmt: skip
    whole = tmp_path / "whole"
    train(**chosen, output_dir=whole)
    cut = killed_copy(whole, tmp_path / "cut", after=2)
    train(**chosen, output_dir=cut, resume=True)
    name = "adapter_model.safetensors"
    assert (cut / name).read_bytes() == (whole / name).read_bytes()
    assert any("lora_magnitude_vector" in key for key in load_file(whole / name))
    config = json.loads((whole / "adapter_config.json").read_text())
    assert (config["use_dora"], config["use_rslora"]) == (True, True)

    push(whole, repo_id, version="0.1.0")  # loads it, and compares its log-probabilities
    assert merge(adapter=whole, output_dir=tmp_path / "merged", dtype="float32").check.largest_difference < 1e-3
    card = (whole / "README.md").read_text()
    assert "| DoRA with rank-stabilised LoRA | r 16" in card
    assert "2402.09353" in card


@pytest.mark.parametrize("name", ["pissa", "pissa_niter_16", "olora", "loftq", "corda", "orthogonal", "lora_ga", False])
def test_an_initialisation_that_leaves_the_base_is_refused(name: object) -> None:
    with pytest.raises(ConfigError, match="other weights than those of the base, which is the reference"):
        TrainConfig.build({**NAMES, "init_lora_weights": name})


def test_an_initialisation_that_needs_data_is_refused() -> None:
    with pytest.raises(ConfigError, match="needs a pass over training data"):
        TrainConfig.build({**NAMES, "init_lora_weights": "eva"})


def test_pefts_default_initialisation_may_be_named() -> None:
    assert TrainConfig.build({**NAMES, "init_lora_weights": True}).init_lora_weights == "default"


def test_layers_that_the_base_lacks_are_refused(tiny_base: Path, dataset_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has no layer 7: it has 2 layers, from 0"):
        train(tiny_base, dataset_dir, tmp_path / "run", layers_to_transform=[1, 7])
