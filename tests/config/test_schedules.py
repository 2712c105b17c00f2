"""Schedules: the table of names and arguments is that of transformers, and what it refuses would not have run."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from hubdpo.config import TrainConfig
from hubdpo.config.schedules import BY_EVALUATION, NEEDED, SCHEDULES
from hubdpo.errors import ConfigError

TRAIN = {"model_name_or_path": "a/b", "dataset": "data", "output_dir": "run"}
OF_THE_TRAINER = {"optimizer", "num_warmup_steps", "num_training_steps", "last_epoch"}


def arguments(name: str) -> dict[str, Any]:
    """The least that the table asks for."""
    return dict([next(iter(NEEDED[name].items()))]) if name in NEEDED else {}


def test_the_names_are_those_of_transformers() -> None:
    from transformers.trainer_utils import SchedulerType

    assert set(SCHEDULES) == {kind.value for kind in SchedulerType}


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_arguments_are_those_of_transformers(name: str) -> None:
    from torch.optim.lr_scheduler import ReduceLROnPlateau
    from transformers.optimization import TYPE_TO_SCHEDULER_FUNCTION, GreedyLR
    from transformers.trainer_utils import SchedulerType

    takes = {"reduce_lr_on_plateau": ReduceLROnPlateau, "greedy": GreedyLR}.get(
        name, TYPE_TO_SCHEDULER_FUNCTION[SchedulerType(name)]
    )
    assert set(inspect.signature(takes).parameters) - OF_THE_TRAINER == set(SCHEDULES[name])


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_that_is_let_through_can_be_made(name: str) -> None:
    import torch
    from transformers import get_scheduler

    config = TrainConfig.build({**TRAIN, "lr_scheduler_type": name, "lr_scheduler_kwargs": arguments(name) or None})
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=5e-6)
    made = get_scheduler(
        name,
        optimizer,
        num_warmup_steps=2,
        num_training_steps=200,
        scheduler_specific_kwargs=config.lr_scheduler_kwargs,
    )
    optimizer.step()
    made.step(*([0.5] if name in BY_EVALUATION else []))
    assert optimizer.param_groups[0]["lr"] >= 0


@pytest.mark.parametrize("name", NEEDED)
def test_a_schedule_without_its_arguments_is_refused_with_some_to_paste(name: str) -> None:
    with pytest.raises(ConfigError, match=f"`{name}` needs") as caught:
        TrainConfig.build({**TRAIN, "lr_scheduler_type": name})
    pasted = (caught.value.hint or "").removeprefix("--lr-scheduler-kwargs '").removesuffix("'")
    assert TrainConfig.build({**TRAIN, "lr_scheduler_type": name, "lr_scheduler_kwargs": pasted})


@pytest.mark.parametrize(
    ("options", "message", "hint"),
    [
        ({"lr_scheduler_type": "cosin"}, "no `cosin`", "did you mean `--lr-scheduler-type cosine`"),
        ({"lr_scheduler_type": "Linear"}, "no `Linear`", "--lr-scheduler-type linear"),
        ({"lr_scheduler_kwargs": {"power": 2}}, "takes no `power`; it takes `num_cycles`", "leave"),
        ({"lr_scheduler_type": "constant", "lr_scheduler_kwargs": {"min_lr": 1}}, "it takes no arguments", "leave"),
        (
            {"lr_scheduler_type": "cosine_with_min_lr", "lr_scheduler_kwargs": {"min_lr": 0, "min_lr_rate": 0}},
            "has 2 of them",
            "--lr-scheduler-kwargs",
        ),
        ({"lr_scheduler_kwargs": "min_lr=1"}, "not a JSON object", "--lr-scheduler-kwargs '{"),
        ({"lr_scheduler_kwargs": "[1]"}, "not a JSON object", "--lr-scheduler-kwargs '{"),
    ],
)
def test_what_is_no_schedule_is_refused_with_the_way_to_write_it(
    options: dict[str, Any], message: str, hint: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        TrainConfig.build({**TRAIN, **options})
    assert hint in (caught.value.hint or "")


def test_arguments_are_read_from_the_command_line_and_keep_their_types() -> None:
    text = '{"num_decay_steps": 30, "min_lr_ratio": 0.1, "decay_type": "linear"}'
    config = TrainConfig.build({**TRAIN, "lr_scheduler_type": "warmup_stable_decay", "lr_scheduler_kwargs": text})
    assert config.lr_scheduler_kwargs == {"num_decay_steps": 30, "min_lr_ratio": 0.1, "decay_type": "linear"}
    assert isinstance(config.lr_scheduler_kwargs["num_decay_steps"], int)
