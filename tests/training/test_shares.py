"""Every pair weighs the same in its step and in an evaluation, even when the last pass is short."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from test_shared_prefix import pairs
from test_token_budget import LONGEST, config_for
from transformers import AutoTokenizer

from hubdpo.data.encoded.rows import TokenRows
from hubdpo.model.bases.load import load_base
from hubdpo.training.step.tally import Counts, Step, Tally
from hubdpo.training.step.trainer import SharedPrefixDPOTrainer, make_trainer
from tests.near import assert_near, assert_same_step

ROWS = 5


def trainer_for(base: Path, out: Path, **options: Any) -> SharedPrefixDPOTrainer:
    """A trainer with ROWS pairs to train on and the same to hold out, whose adapter is not that of the first step."""
    rows = TokenRows.of(pairs("skewed", ROWS))
    trainer = make_trainer(
        config_for(out, **options), load_base(base, device="cpu", load_in_4bit=False),
        AutoTokenizer.from_pretrained(base), rows, rows,
        device="cpu", steps=1, callbacks=[],
    )  # fmt: skip
    move_adapter(trainer)
    return trainer


def move_adapter(trainer: SharedPrefixDPOTrainer) -> None:
    """Give the adapter other weights than those of the first step."""
    draw = torch.Generator().manual_seed(1)
    for name, weight in trainer.model.named_parameters():
        if "lora_" in name:
            weight.data = torch.randn(weight.shape, generator=draw) * 0.05


def step(trainer: SharedPrefixDPOTrainer) -> tuple[float, dict[str, list[float]], dict[str, torch.Tensor]]:
    """The step as transformers runs it: the loss, what is logged of it, and the gradients."""
    trainer.create_optimizer()
    loader = trainer.get_train_dataloader()
    batches, _ = trainer.get_batch_samples(iter(loader), len(loader), torch.device("cpu"))
    trainer.current_gradient_accumulation_steps = len(batches)
    loss = sum(trainer.training_step(trainer.model, batch).item() for batch in batches)
    gradients = {n: p.grad.clone() for n, p in trainer.model.named_parameters() if p.grad is not None}
    trainer.read_metrics()
    return loss, dict(trainer._metrics["train"]), gradients


@pytest.mark.parametrize(
    "cut",
    [
        {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 3},
        {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2},
        {"per_device_train_batch_size": 8, "tokens_per_batch": LONGEST},
    ],
    ids=["2+2+1", "4+1", "by tokens"],
)
@pytest.mark.parametrize("losses", [{}, {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.5]}], ids=str)
def test_a_step_with_a_short_last_pass_is_that_of_one_pass(
    tiny_base: Path, tmp_path: Path, losses: dict[str, Any], cut: dict[str, int]
) -> None:
    whole = step(trainer_for(tiny_base, tmp_path, per_device_train_batch_size=ROWS, **losses))
    found = step(trainer_for(tiny_base, tmp_path, **cut, **losses))
    assert_same_step(found, whole)


def test_an_evaluation_in_batches_is_that_of_one_batch(tiny_base: Path, tmp_path: Path) -> None:
    found = []
    for size in (2, ROWS):
        trainer = trainer_for(tiny_base, tmp_path, per_device_eval_batch_size=size)
        metrics: dict[str, float] = trainer.evaluate()
        found.append({**metrics, **trainer.state.log_history[-1]})
    assert found[0]["eval_rewards/accuracies"] in {right / ROWS for right in range(ROWS + 1)}
    for name, value in found[1].items():
        if "per_second" not in name and "time" not in name:
            assert_near(found[0][name], value, share=1e-5, scale=max(1, abs(value)), name=name)  # means of the same


@pytest.mark.parametrize("size", range(1, 33))
@pytest.mark.parametrize("passes", [1, 2, 3, 7, 16, 49])
def test_passes_of_one_size_weigh_exactly_one(size: int, passes: int) -> None:
    own = Counts(size, 11 * size, 7 * size)
    whole = Step(Counts(size * passes, 11 * size * passes, 7 * size * passes), passes)
    assert whole.loss_weights(own, ["sigmoid", "sft"], [1.0, 0.3], divided_by=passes) == [1.0, 0.3]


def test_metrics_are_merged_by_what_they_are_means_over() -> None:
    tally, passes = Tally(), (Counts(2, 10, 40), Counts(1, 30, 40))
    tally.add(passes[0], {"rewards/margins": [1.0], "logits/chosen": [1.0], "num_tokens": [70.0]})
    tally.add(passes[1], {"rewards/margins": [4.0], "logits/chosen": [5.0], "num_tokens": [150.0]})
    names, values = tally.merged(sum(passes, Counts()), lambda own: own)
    assert dict(zip(names, values.tolist(), strict=True)) == {"rewards/margins": 2.0, "logits/chosen": 4.0}
