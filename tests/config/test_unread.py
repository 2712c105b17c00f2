"""Options without effect are named, and smoothing is refused for losses that do not read it."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from hubdpo.config import TrainConfig
from hubdpo.config.objective import TRL_LOSSES, WITH_SMOOTHING
from hubdpo.config.unread import unread
from hubdpo.errors import ConfigError

TRAIN = {"model_name_or_path": "a/b", "dataset": "data", "output_dir": "run"}


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"optim": "sgd", "adam_beta1": 0.5}, "--adam-beta1"),
        ({"optim": "adafactor", "adam_epsilon": 1e-4}, "--adam-epsilon"),
        ({"optim": "rmsprop_bnb", "adam_beta2": 0.9}, "--adam-beta2"),
        ({"optim": "lion_8bit", "adam_epsilon": 1e-4}, "--adam-epsilon"),
        ({"lr_scheduler_type": "constant", "warmup_steps": 2}, "--warmup-steps"),
        ({"lr_scheduler_type": "reduce_lr_on_plateau", "warmup_ratio": 0.1}, "--warmup-ratio"),
        ({"max_steps": 9, "num_train_epochs": 3}, "--num-train-epochs"),
        ({"early_stopping_threshold": 0.1}, "--early-stopping-threshold"),
        ({"metric_for_best_model": "eval_rewards/margins"}, "--metric-for-best-model"),
        ({"run_name": "x"}, "--run-name"),
        ({"project": "x", "report_to": "none"}, "--project"),
    ],
)
def test_an_option_without_effect_is_named(options: dict[str, Any], name: str) -> None:
    sentences = list(unread(TrainConfig.build({**TRAIN, **options})))
    assert [sentence.partition(" has no effect ")[0] for sentence in sentences] == [name]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"lr_scheduler_type": "constant"},
        {"lr_scheduler_type": "constant_with_warmup", "warmup_steps": 2},
        {"lr_scheduler_type": "constant", "warmup_steps": 0},
        {"optim": "lion_8bit", "adam_beta1": 0.5},
        {"optim": "paged_ademamix_8bit", "adam_beta1": 0.5, "adam_epsilon": 1e-4},
        {"early_stopping_patience": 1, "early_stopping_threshold": 0.1, "metric_for_best_model": "rewards/margins"},
        {"load_best_model_at_end": True, "metric_for_best_model": "eval_rewards/margins"},
        {"report_to": "tensorboard", "run_name": "x", "project": "y"},
    ],
)
def test_an_option_that_is_read_is_not(options: dict[str, Any]) -> None:
    assert not list(unread(TrainConfig.build({**TRAIN, **options})))


def test_smoothing_is_read_by_the_losses_that_read_it_in_trl() -> None:
    from trl.trainer.dpo_trainer import DPOTrainer

    source = inspect.getsource(DPOTrainer)
    branches = source.split('loss_type == "')[1:]
    assert [name for name in TRL_LOSSES if name in WITH_SMOOTHING] == sorted(
        (branch.partition('"')[0] for branch in branches if "self.label_smoothing" in branch), key=TRL_LOSSES.index
    )


@pytest.mark.parametrize("loss", ["sigmoid", "hinge", "orpo"])
def test_smoothing_is_refused_where_no_loss_reads_it(loss: str) -> None:
    with pytest.raises(ConfigError, match=f"`{loss}` does not read --label-smoothing") as caught:
        TrainConfig.build({**TRAIN, "loss_type": [loss], "label_smoothing": 0.1})
    assert str(caught.value.hint).startswith("--loss-type robust")
    assert TrainConfig.build({**TRAIN, "loss_type": [loss, "cpo"], "label_smoothing": 0.1})
