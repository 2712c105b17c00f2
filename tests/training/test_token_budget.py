"""A step cut into passes by tokens equals the step in one pass."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from test_shared_prefix import LOSSES, pairs
from transformers import AutoTokenizer

from hubdpo import train
from hubdpo.artefacts.manifests.run import RunManifest
from hubdpo.config import TrainConfig
from hubdpo.data.encoded.rows import TokenRows
from hubdpo.errors import ConfigError
from hubdpo.model.bases.load import load_base
from hubdpo.training.step.passes import Limit, cut_into_passes, fill, packed_tokens, padded_tokens, spread
from hubdpo.training.step.trainer import SharedPrefixDPOTrainer, make_trainer
from tests.near import assert_near, assert_same_step

LONGEST = 256


def config_for(out: Path, **options: Any) -> TrainConfig:
    return TrainConfig.build(
        {
            "model_name_or_path": "x/y", "dataset": "x", "output_dir": out, "per_device_train_batch_size": 8,
            "gradient_accumulation_steps": 1, "max_length": LONGEST, **options,
        }
    )  # fmt: skip


def trainer_for(base: Path, out: Path, shape: str, *, nf4: bool = False, **options: Any) -> SharedPrefixDPOTrainer:
    config = config_for(out, **options)
    trainer = make_trainer(
        config,
        load_base(base, device="cpu", load_in_4bit=nf4, dtype=config.dtype),
        AutoTokenizer.from_pretrained(base),
        TokenRows.of(pairs(shape, 8)),
        None,
        device="cpu",
        steps=1,
        callbacks=[],
    )
    draw = torch.Generator().manual_seed(1)
    for name, weight in trainer.model.named_parameters():
        if "lora_" in name:
            weight.data = torch.randn(weight.shape, generator=draw) * 0.05
    trainer.current_gradient_accumulation_steps = 1
    return trainer


def step(trainer: SharedPrefixDPOTrainer) -> tuple[float, dict[str, list[float]], dict[str, torch.Tensor]]:
    trainer.create_optimizer()
    batches, _ = trainer.get_batch_samples(iter(trainer.get_train_dataloader()), 1, torch.device("cpu"))
    loss = trainer.training_step(trainer.model, batches[0])
    gradients = {n: p.grad.clone() for n, p in trainer.model.named_parameters() if p.grad is not None}
    trainer.read_metrics()
    return loss.item(), dict(trainer._metrics["train"]), gradients


@pytest.mark.parametrize("shared_prefix", [True, False])
@pytest.mark.parametrize("shape", ["skewed", "long prompts"])
@pytest.mark.parametrize("loss", LOSSES)
def test_loss_metrics_and_gradients_are_those_of_one_pass(
    tiny_base: Path, tmp_path: Path, loss: str, shape: str, shared_prefix: bool
) -> None:
    options = {**LOSSES[loss], "shared_prefix": shared_prefix}
    whole = step(trainer_for(tiny_base, tmp_path, shape, **options))
    cut = step(trainer_for(tiny_base, tmp_path, shape, **options, tokens_per_batch=LONGEST))
    assert_same_step(cut, whole)


@pytest.mark.parametrize("packed", [True, False])
def test_every_pair_is_in_one_pass_and_no_pass_is_over_the_budget(packed: bool) -> None:
    rows = list(TokenRows.of(pairs("skewed", 8)))
    cut = cut_into_passes(rows, Limit(tokens=250), packed=packed)
    assert 1 < len(cut) < 8
    assert sorted(pair for part in cut for pair in part) == [*range(8)]
    for part in cut:
        held = [rows[pair] for pair in part]
        assert (packed_tokens(held) if packed else len(held) * max(map(padded_tokens, held))) <= 250


def test_a_pair_costs_its_common_prefix_once_when_packed_and_its_width_twice_when_padded() -> None:
    row = {"prompt_ids": [1], "chosen_ids": [2, 3, 4], "rejected_ids": [2, 5]}
    assert packed_tokens([row]) == 4 + 3 - 2
    assert padded_tokens(row) == 2 * 4


def test_padded_passes_hold_pairs_of_like_length() -> None:
    assert fill([50, 40, 30, 20], 100) == [[0, 1], [2, 3]]
    assert fill([120, 60, 40, 1], 100) == [[0], [1], [2, 3]]


@pytest.mark.parametrize(
    ("costs", "passes"),
    [
        ([90, 40, 30, 20, 10], [[0, 4], [1, 2, 3]]),
        ([60, 50, 40, 30, 20], [[1, 4], [2, 3], [0]]),
        ([120, 60, 40, 1], [[0], [1], [2, 3]]),
        ([300, 300], [[0], [1]]),
        ([40, 40, 40, 40, 40], [[0, 3], [1, 4], [2]]),
    ],
)
def test_packed_passes_are_few_and_about_equally_long(costs: list[int], passes: list[list[int]]) -> None:
    assert spread(costs, 100) == passes


def options(base: Path | str, data: Path, run: Path, **more: Any) -> dict[str, Any]:
    return {
        "model_name_or_path": str(base), "dataset": str(data), "output_dir": run, "max_length": 128,
        "per_device_train_batch_size": 4, "gradient_accumulation_steps": 2, "learning_rate": 1e-3, "max_steps": 4,
        "eval_steps": 50, "save_steps": 2, **more,
    }  # fmt: skip


def test_auto_is_recorded_as_a_number(tiny_base: Path, dataset_dir: Path, tmp_path: Path) -> None:
    run = train(**options(tiny_base, dataset_dir, tmp_path / "run", tokens_per_batch="auto"))
    assert isinstance(run.config["tokens_per_batch"], int)
    assert run == train(**options(tiny_base, dataset_dir, tmp_path / "run", tokens_per_batch="auto", resume=True))


def test_a_run_by_tokens_learns_the_same_as_one_by_pairs(tiny_base: Path, dataset_dir: Path, tmp_path: Path) -> None:
    losses = []
    for budget in (None, 128):
        run = tmp_path / str(budget)
        train(**options(tiny_base, dataset_dir, run, tokens_per_batch=budget))
        losses.append(RunManifest.read(run / "run.json").metrics["loss"])
    # rounding grows from step to step, as Adam divides by the root of tiny squares
    assert_near(losses[0], losses[1], share=1e-4, scale=1)


def test_a_budget_below_one_sequence_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--tokens-per-batch must be"):
        train(**options("x/y", tmp_path, tmp_path / "run", tokens_per_batch=64))


def test_a_loss_over_the_whole_batch_is_not_cut(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="aot"):
        train(**options("x/y", tmp_path, tmp_path / "run", tokens_per_batch=512, loss_type=["aot"]))
