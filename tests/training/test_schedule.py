"""Steps are counted as the trainer counts them, and the learning rates of an extended run are printed."""

from __future__ import annotations

import itertools
from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest
from accelerate.data_loader import BatchSamplerShard
from torch.utils.data import BatchSampler
from transformers import Trainer, TrainingArguments

from hubdpo.config import TrainConfig
from hubdpo.config.schedules import NEEDED, SCHEDULES
from hubdpo.data.tokens.tokenize import Account
from hubdpo.errors import ConfigError
from hubdpo.training.schedule import Epoch, batches_of, check_rates, planned_steps, print_extension, print_plan, rates


def config_for(**options: Any) -> TrainConfig:
    return TrainConfig.build({"model_name_or_path": "x/y", "dataset": "x", "output_dir": "r", **options})


def counted_by_the_trainer(rows: int, epochs: float, batch: int, accumulated: int, processes: int) -> tuple[int, int]:
    """Return steps and batches of an epoch as transformers counts them over the batches that accelerate gives."""
    shard = BatchSamplerShard(BatchSampler(range(rows), batch, drop_last=False), num_processes=processes)
    arguments = SimpleNamespace(max_steps=-1, num_train_epochs=epochs, gradient_accumulation_steps=accumulated)
    itself: Any = SimpleNamespace(
        get_total_train_batch_size=lambda args: batch * accumulated * processes, get_sp_size=lambda: 1,
        num_examples=lambda loader: rows,
    )  # fmt: skip
    values = Trainer.set_initial_training_values(itself, arguments, shard)  # type: ignore[arg-type]
    return int(values[-1]), len(list(shard))


@pytest.mark.parametrize("processes", [1, 2, 3])
@pytest.mark.parametrize("rows", [1, 3, 10, 17, 37, 64])
def test_steps_and_epochs_are_those_of_the_trainer(rows: int, processes: int) -> None:
    for epochs, batch, accumulated in itertools.product((0.5, 1, 2.5, 3, 10), (1, 4, 7), (1, 2, 5)):
        config = config_for(
            num_train_epochs=epochs, per_device_train_batch_size=batch, gradient_accumulation_steps=accumulated,
            num_processes=processes,
        )  # fmt: skip
        steps, batches = counted_by_the_trainer(rows, epochs, batch, accumulated, processes)
        assert planned_steps(config, rows) == steps
        epoch = Epoch.of(config, rows)
        assert epoch.batches == batches
        if epochs == int(epochs):
            assert epoch.done(steps) == epochs
        assert rows + epoch.repeated == (epoch.steps - 1) * epoch.pairs_per_step + epoch.in_last_step


def test_passes_by_tokens_leave_the_steps_as_they_are() -> None:
    chosen = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2, "num_train_epochs": 3}
    by_pairs, by_tokens = config_for(**chosen), config_for(**chosen, tokens_per_batch=2048)
    assert (batches_of(by_pairs), batches_of(by_tokens)) == ((4, 2), (8, 1))
    for rows in range(1, 40):
        assert planned_steps(by_pairs, rows) == planned_steps(by_tokens, rows)


def test_max_steps_come_before_epochs() -> None:
    assert planned_steps(config_for(max_steps=7, num_train_epochs=3), 1000) == 7


@pytest.mark.parametrize(("eval_steps", "warned"), [(1, False), (2, False), (3, True), (4, True), (1000, True)])
def test_early_stopping_that_cannot_act_is_named(
    eval_steps: int, warned: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    config = config_for(early_stopping_patience=2, eval_steps=eval_steps)
    account = Account(Counter(rows=10, tokens=1000), None)
    print_plan(config, account, "cpu", Epoch.of(config, 10), steps=9)
    assert ("early stopping cannot act: it waits for 3 evaluations" in capsys.readouterr().err) is warned


def test_rates_are_those_of_the_trainer() -> None:
    config = config_for(learning_rate=1.0, lr_scheduler_type="linear")
    assert rates(config, steps=10, warmup_steps=2, at=[1, 2, 3, 7, 10]) == [0.0, 0.5, 1.0, 0.5, 0.125]
    assert TrainingArguments(warmup_steps=2).get_warmup_steps(10) == 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"lr_scheduler_type": "constant"}, "`constant` continues: learning rate 5.00e-06 at step 11, 5.00e-06 at 20"),
        ({"lr_scheduler_type": "inverse_sqrt"}, "continues: learning rate"),
        ({"lr_scheduler_type": "greedy"}, "continues: it follows the held-out loss"),
        ({"lr_scheduler_type": "linear"}, "recomputed for 20 steps: learning rate 2.63e-06 at step 11, where it was 0"),
        (
            {"lr_scheduler_type": "cosine_with_min_lr", "lr_scheduler_kwargs": {"min_lr_rate": 0.5}},
            "where it was 2.50e-06",
        ),
    ],
)
def test_an_extension_prints_the_learning_rates(
    capsys: pytest.CaptureFixture[str], options: dict[str, Any], words: str
) -> None:
    print_extension(config_for(**options), before=10, now=20, warmup_steps=1, reached=10)
    said = capsys.readouterr().err
    assert "from 10 to 20 steps, on from step 10" in said
    assert words in said


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("polynomial", {"lr_end": 1.0}, "must be smaller than initial lr"),
        ("polynomial", {"power": "two"}, "cannot be made with these arguments"),
        ("warmup_stable_decay", {"num_decay_steps": 5, "decay_type": "steep"}, "Unknown decay type"),
        ("warmup_stable_decay", {"num_decay_steps": 19}, "does not fit into 20 steps with 2 of warm-up"),
        ("cosine", {"num_cycles": "many"}, "cannot be made with these arguments"),
        ("polynomial", {"lr_end": -1.0}, "gives a learning rate of -"),
        ("reduce_lr_on_plateau", {"factor": 2.0}, "cannot be made with these arguments"),
    ],
)
def test_invalid_schedule_arguments_are_refused(name: str, arguments: dict[str, Any], message: str) -> None:
    config = config_for(lr_scheduler_type=name, lr_scheduler_kwargs=arguments)
    with pytest.raises(ConfigError, match=message) as caught:
        check_rates(config, steps=20, warmup_steps=2)
    assert "--lr-scheduler-kwargs" in (caught.value.hint or "")


def test_a_warm_up_longer_than_the_run_is_refused_by_its_name() -> None:
    with pytest.raises(ConfigError, match="a warm-up of 30 steps does not fit into 20 steps") as caught:
        check_rates(config_for(warmup_steps=30), steps=20, warmup_steps=30)
    assert caught.value.hint == "--warmup-steps 2"


@pytest.mark.parametrize("steps", [1, 2, 20, 5000])
@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_with_valid_arguments_is_accepted(name: str, steps: int) -> None:
    arguments = (
        {"num_decay_steps": 1} if name == "warmup_stable_decay" else dict(list(NEEDED.get(name, {}).items())[:1])
    )
    config = config_for(lr_scheduler_type=name, lr_scheduler_kwargs=arguments or None)
    check_rates(config, steps=steps, warmup_steps=0)
    check_rates(config, steps=steps, warmup_steps=steps - 1)
