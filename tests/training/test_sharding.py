"""What accelerate is asked to shard: what hubdpo trains with, and what it refuses before anything is written."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate.commands.config.config_args import load_config_from_file
from sharded_runs import dataset, launch, options

from hubdpo import train
from hubdpo.artefacts.manifests.run import BaseRef, DatasetRef, RunManifest
from hubdpo.config import TrainConfig
from hubdpo.errors import ConfigError, ResumeMismatch
from hubdpo.training import sharding
from hubdpo.training.run.record import published_config
from hubdpo.training.run.resume import check_same_experiment
from hubdpo.training.sharding import Sharding, check_sharding, deepspeed_config
from hubdpo.training.step.arguments import dpo_config
from hubdpo.training.step.sharded import ShardedDPOTrainer

SEED_FILE = {
    "fp16": {"enabled": "auto", "loss_scale": 0, "initial_scale_power": 16},
    "bf16": {"enabled": "auto"},
    "zero_optimization": {"stage": 2, "allgather_partitions": True, "reduce_bucket_size": 5e8},
    "gradient_accumulation_steps": "auto", "gradient_clipping": "auto", "train_batch_size": "auto",
    "train_micro_batch_size_per_gpu": "auto", "steps_per_print": 100, "wall_clock_breakdown": False,
}  # fmt: skip
"""A DeepSpeed configuration as people have it, with values that the trainer fills in."""


@pytest.fixture(autouse=True)
def deepspeed_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharding, "find_spec", lambda name: object())


def asked_for(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def with_file(monkeypatch: pytest.MonkeyPatch, folder: Path, **changed: Any) -> None:
    file = folder / "ds_config.json"
    file.write_text(json.dumps({**SEED_FILE, **changed}))
    asked_for(monkeypatch, {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_CONFIG_FILE": str(file)})


def run(folder: Path, **given: Any) -> TrainConfig:
    return TrainConfig.build({"model_name_or_path": "x/y", "dataset": "x", "output_dir": folder, **given})


def built(folder: Path, **given: Any) -> dict[str, Any]:
    made = deepspeed_config(run(folder, num_processes=2, **given), 4, 2, bfloat16=True)
    assert made is not None
    return made


@pytest.mark.parametrize("kind", [Sharding.ZERO_2, Sharding.ZERO_3])
def test_a_shipped_configuration_asks_for_what_it_is_named_after(
    tmp_path: Path, kind: Sharding, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_config_from_file(str(kind.launch_config))
    given = config.deepspeed_config
    asked_for(
        monkeypatch,
        {f"ACCELERATE_USE_{config.distributed_type.value}": "true",
         "ACCELERATE_DEEPSPEED_ZERO_STAGE": str(given["zero_stage"])},
    )  # fmt: skip
    assert check_sharding("cuda", run(tmp_path)) is kind
    assert (config.mixed_precision, config.use_cpu) == ("no", False)
    assert not given.get("zero3_init_flag")  # each process loads the base and quantises it for itself


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"ACCELERATE_USE_FSDP": "true"}, "FSDP 1"),
        ({"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}, "FSDP 2 .* no CUDA device"),
        ({"ACCELERATE_USE_DEEPSPEED": "true"}, "ZeRO-2 .* no CUDA device"),
        ({"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": "1"}, "stage 1"),
        ({"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_MIXED_PRECISION": "fp16"}, "fp16"),
        ({"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_CONFIG_FILE": "/no/such"}, "cannot be read"),
    ],
)
def test_other_ways_to_shard_are_refused_before_anything_is_written(
    tiny_base: Path, dataset_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str], message: str,
) -> None:  # fmt: skip
    asked_for(monkeypatch, variables)
    with pytest.raises(ConfigError, match=message):
        train(model_name_or_path=str(tiny_base), dataset=str(dataset_dir), output_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_fsdp_2_is_for_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked_for(monkeypatch, {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"})
    assert check_sharding("cuda", run(tmp_path)) is Sharding.FSDP_2


def test_without_accelerate_nothing_is_sharded(tmp_path: Path) -> None:
    assert check_sharding("cpu", run(tmp_path, optim="adamw_8bit")) is None
    assert deepspeed_config(run(tmp_path), 1, 1, bfloat16=True) is None


def test_deepspeed_must_be_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked_for(monkeypatch, {"ACCELERATE_USE_DEEPSPEED": "true"})
    monkeypatch.setattr(sharding, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="needs DeepSpeed") as refusal:
        check_sharding("cuda", run(tmp_path))
    assert refusal.value.hint == "pip install 'hubdpo[deepspeed]'"


@pytest.mark.parametrize(
    ("stage", "chosen", "hint"),
    [
        (2, {"optim": "adafactor"}, "--optim adamw_torch_fused"),
        (3, {"load_best_model_at_end": True}, "leave it out"),
        (3, {"use_dora": True}, str(Sharding.FSDP_2.launch_config)),
    ],
)
def test_options_that_need_a_whole_weight_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: int, chosen: dict[str, Any], hint: str
) -> None:
    asked_for(monkeypatch, {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": str(stage)})
    check_sharding("cuda", run(tmp_path))
    with pytest.raises(ConfigError, match=next(iter(chosen)).replace("_", "-")) as refusal:
        check_sharding("cuda", run(tmp_path, **chosen))
    assert hint in (refusal.value.hint or "")


def test_a_file_with_values_to_fill_in_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_file(monkeypatch, tmp_path, optimizer={"type": "AdamW", "params": {"lr": "auto", "betas": "auto"}})
    assert check_sharding("cuda", run(tmp_path)) is Sharding.ZERO_2
    made = built(tmp_path)
    assert made["zero_optimization"] == SEED_FILE["zero_optimization"]
    assert (made["fp16"], made["bf16"]) == ({"enabled": False}, {"enabled": False})
    assert made["torch_autocast"] == {"enabled": True, "dtype": "bfloat16", "lower_precision_safe_modules": []}
    assert "optimizer" not in made


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        ({"fp16": {"enabled": True}}, "fp16"),
        ({"optimizer": {"type": "AdamW", "params": {"lr": 1e-4}}}, "optimizer"),
        ({"optimizer": {"type": "Lamb"}}, "optimizer"),
        ({"scheduler": {"type": "WarmupLR", "params": {"warmup_num_steps": 10}}}, "scheduler"),
        ({"zero_optimization": {"stage": 2, "offload_optimizer": {"device": "cpu"}}}, "offload_optimizer"),
        ({"zero_optimization": {"stage": 3, "offload_param": {"device": "nvme"}}}, "offload_param"),
        ({"zero_optimization": {"stage": 3, "zero_quantized_weights": True}}, "zero_quantized_weights"),
    ],
)
def test_options_that_train_something_else_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: dict[str, Any], name: str
) -> None:
    with_file(monkeypatch, tmp_path, **changed)
    with pytest.raises(ConfigError, match=f"`{name}`"):
        check_sharding("cuda", run(tmp_path))


@pytest.mark.parametrize(
    ("name", "other", "own"),
    [
        ("train_micro_batch_size_per_gpu", 3, 4), ("gradient_accumulation_steps", 3, 2), ("train_batch_size", 8, 16),
        ("gradient_clipping", 0.5, 1.0),
    ],
)  # fmt: skip
def test_numbers_must_be_those_of_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, other: float, own: float
) -> None:
    with_file(monkeypatch, tmp_path, **{name: own})
    built(tmp_path)
    with_file(monkeypatch, tmp_path, **{name: other})
    with pytest.raises(ConfigError, match=rf"`{name}` {other}, and the options of the run make it {own}"):
        built(tmp_path)


def test_zero_3_gathers_the_adapter_for_checkpoints_and_leaves_little_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_file(monkeypatch, tmp_path, zero_optimization={"stage": 3})
    zero = built(tmp_path)["zero_optimization"]
    assert zero["stage3_gather_16bit_weights_on_model_save"] is True
    assert zero["stage3_param_persistence_threshold"] == "auto"


def test_a_run_is_not_resumed_with_another_sharding(tmp_path: Path) -> None:
    config, base = run(tmp_path), BaseRef(name="x/y")
    data = DatasetRef(name="x", fingerprint="0" * 64, train_pairs=1, test_pairs=0)
    earlier = RunManifest(
        hubdpo_version="0", status="running", config=published_config(config), dataset=data, base=base, versions={},
        device="cpu", sharding="ZeRO-2", seed=0,
    )  # fmt: skip
    check_same_experiment(earlier, config, base, data, sharding=Sharding.ZERO_2)
    for other in (None, Sharding.ZERO_3):
        with pytest.raises(ResumeMismatch, match="another configuration: sharding;"):
            check_same_experiment(earlier, config, base, data, sharding=other)


@pytest.mark.parametrize("backend", ["is_fsdp_enabled", "is_deepspeed_enabled", None])
def test_a_sharded_trainer_computes_in_bfloat16_by_autocast_alone(backend: str | None) -> None:
    trainer = object.__new__(ShardedDPOTrainer)
    trainer.is_fsdp_enabled = trainer.is_deepspeed_enabled = False
    trainer.args = SimpleNamespace(device=torch.device("cpu"))
    plugin = SimpleNamespace(mixed_precision_policy="in bfloat16")
    trainer.accelerator = SimpleNamespace(state=SimpleNamespace(fsdp_plugin=plugin))
    if backend:
        setattr(trainer, backend, True)
    trainer.follow_ddp(bfloat16=True)
    with trainer.own_autocast():
        assert torch.is_autocast_enabled("cpu") == bool(backend)  # in data parallel accelerate has done it
        assert torch.get_autocast_dtype("cpu") == torch.bfloat16
    assert (plugin.mixed_precision_policy is None) == (backend == "is_fsdp_enabled")


@pytest.mark.parametrize(("dtype", "expected"), [("float32", "no"), ("bfloat16", "bf16")])
def test_the_run_chooses_the_type_and_not_the_launcher(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str, expected: str
) -> None:
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16" if expected == "no" else "no")
    args = dpo_config(run(tmp_path, dtype=dtype), device="cpu", steps=1, evaluates=False)
    assert args.mixed_precision == os.environ["ACCELERATE_MIXED_PRECISION"] == expected


def test_a_run_without_a_launcher_leaves_the_environment_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ACCELERATE_MIXED_PRECISION", raising=False)
    args = dpo_config(run(tmp_path, dtype="bfloat16"), device="cpu", steps=1, evaluates=False)
    assert args.mixed_precision == "bf16"
    assert "ACCELERATE_MIXED_PRECISION" not in os.environ


@pytest.mark.slow
def test_a_run_that_accelerate_does_not_shard_is_stopped(tiny_base: Path, tmp_path: Path) -> None:
    command = options(tiny_base, dataset(tmp_path), tmp_path / "run")
    done = launch(Sharding.FSDP_2, tmp_path, command, processes=1, AS_ACCELERATE_DOES="1")
    assert done.returncode
    assert "error: FSDP 2 was asked for, and accelerate shards nothing here" in done.stderr
    assert not (tmp_path / "run" / "run.json").exists()
