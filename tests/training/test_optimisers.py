"""Optimisers by transformers' names, and the warm-up."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
from killed import killed_copy
from transformers import Trainer
from transformers.training_args import OptimizerNames

from hubdpo import train
from hubdpo.config import TrainConfig
from hubdpo.config.optimiser import OPTIMISERS, REFUSED
from hubdpo.errors import ConfigError
from hubdpo.training.step.arguments import dpo_config

NAMES = {"model_name_or_path": "x/y", "dataset": "d", "output_dir": "r"}
ADAPTER = "adapter_model.safetensors"


def built(**chosen: Any) -> TrainConfig:
    return TrainConfig.build({**NAMES, **chosen})


@pytest.mark.parametrize("name", [each.value for each in OptimizerNames])
def test_every_optimiser_of_transformers_is_known_or_refused_with_a_reason(name: str) -> None:
    if name in OPTIMISERS:
        assert built(optim=name).optim == name
        return
    with pytest.raises(ConfigError, match="does not fit: it") as caught:
        built(optim=name)
    assert caught.value.hint == "--optim adamw_torch_fused"


def test_the_list_has_nothing_that_transformers_lacks() -> None:
    names = {each.value for each in OptimizerNames}
    assert set(OPTIMISERS) <= names
    assert all(any(name.startswith(beginning) for name in names) for beginning in REFUSED)


def test_the_default_is_that_of_trl() -> None:
    args = dpo_config(built(), device="cpu", steps=1, evaluates=False)
    assert args.optim == type(args)(output_dir="r", use_cpu=True, bf16=False).optim


@pytest.mark.parametrize("name", ["adamw_8bit", "paged_adamw_8bit", "paged_adamw_32bit", "lion_8bit"])
def test_optimisers_of_bitsandbytes_get_their_settings(name: str) -> None:
    args = dpo_config(built(optim=name, adam_beta2=0.95), device="cpu", steps=1, evaluates=False)
    kind, options = Trainer.get_optimizer_cls_and_kwargs(args)
    assert kind.__module__.startswith("bitsandbytes")
    assert options["betas"] == (0.9, 0.95)
    assert options["optim_bits"] == (8 if "8bit" in name else 32)
    assert options["is_paged"] == name.startswith("paged")


def test_an_optimiser_for_gpus_is_refused_on_a_cpu(tiny_base: Path, dataset_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="`--optim paged_adamw_8bit` needs a CUDA device"):
        train(tiny_base, dataset_dir, tmp_path / "run", optim="paged_adamw_8bit", device="cpu")


def test_a_missing_package_is_named(
    tiny_base: Path, dataset_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: name != "optimi" and find(name, *rest) or None)
    with pytest.raises(ConfigError, match="`--optim stable_adamw` needs its package") as caught:
        train(tiny_base, dataset_dir, tmp_path / "run", optim="stable_adamw")
    assert caught.value.hint == "pip install torch-optimi"


@pytest.mark.parametrize("name", ["adamw_torch", "adafactor", "sgd", "adagrad", "rmsprop"])
def test_the_bytes_of_a_state_are_those_that_it_takes(name: str) -> None:
    args = dpo_config(built(optim=name), device="cpu", steps=1, evaluates=False)
    kind, options = Trainer.get_optimizer_cls_and_kwargs(args)
    weight = torch.nn.Parameter(torch.ones(256, 256))
    optimiser = kind([weight], **options)
    weight.sum().backward()
    optimiser.step()
    state = [value for value in optimiser.state[weight].values() if isinstance(value, torch.Tensor)]
    taken = sum(value.numel() * value.element_size() for value in state) / weight.numel()
    assert round(taken) == OPTIMISERS[name].bytes


@pytest.mark.slow
@pytest.mark.parametrize("name", ["adafactor"])
def test_a_resumed_run_ends_with_the_same_bits(tiny_base: Path, dataset_dir: Path, tmp_path: Path, name: str) -> None:
    chosen: dict[str, Any] = {
        "model_name_or_path": tiny_base, "dataset": dataset_dir, "max_steps": 3, "max_length": 128, "optim": name,
        "learning_rate": 1e-3, "per_device_train_batch_size": 2, "gradient_accumulation_steps": 1, "save_steps": 1,
        "load_in_4bit": False, "adam_beta1": 0.8, "warmup_steps": 2,
    }  # fmt: skip
    whole = tmp_path / "whole"
    train(**chosen, output_dir=whole)
    cut = killed_copy(whole, tmp_path / "cut", after=2)
    train(**chosen, output_dir=cut, resume=True)
    assert (cut / ADAPTER).read_bytes() == (whole / ADAPTER).read_bytes()


@pytest.mark.parametrize(
    ("chosen", "steps"),
    [
        ({}, 10), ({"warmup_ratio": 0.25}, 25), ({"warmup_steps": 7}, 7), ({"warmup_steps": 0}, 0),
        ({"warmup_steps": 7, "warmup_ratio": 0}, 7), ({"warmup_steps": 0, "warmup_ratio": 0.25}, 25),
        ({"warmup_steps": 0.25}, 25),
    ],
)  # fmt: skip
def test_the_warm_up_of_100_steps(chosen: dict[str, Any], steps: int) -> None:
    assert built(**chosen).warmup(100) == steps


def test_two_lengths_of_the_warm_up_are_refused() -> None:
    with pytest.raises(ConfigError, match="--warmup-steps and --warmup-ratio") as caught:
        built(warmup_steps=7, warmup_ratio=0.25)
    assert caught.value.hint == "--warmup-steps 7, or --warmup-ratio 0.25"
