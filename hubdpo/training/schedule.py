"""How many steps a run takes, counted as the trainer counts them, and the learning rate along them."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.optim.lr_scheduler import LambdaLR
from transformers import get_scheduler

from hubdpo import console
from hubdpo.config import TrainConfig
from hubdpo.errors import ConfigError


def batches_of(config: TrainConfig) -> tuple[int, int]:
    """Return the pairs in a batch of one process, and how many batches make a step; by tokens the step is one batch."""
    if config.tokens_per_batch is not None:
        return config.pairs_per_process, 1
    return config.per_device_train_batch_size, config.gradient_accumulation_steps


@dataclass(frozen=True)
class Epoch:
    """One pass over `rows` pairs. Its last step is short where they do not fill it; the next epoch begins a new one."""

    rows: int
    batch: int
    accumulated: int
    processes: int

    @classmethod
    def of(cls, config: TrainConfig, rows: int) -> Epoch:
        return cls(rows, *batches_of(config), config.num_processes)

    @property
    def batches(self) -> int:
        """Batches of each process; accelerate gives all of them as many."""
        return math.ceil(math.ceil(self.rows / self.batch) / self.processes)

    @property
    def steps(self) -> int:
        return math.ceil(self.batches / self.accumulated)

    @property
    def pairs_per_step(self) -> int:
        return self.batch * self.accumulated * self.processes

    @property
    def repeated(self) -> int:
        """Pairs that accelerate takes a second time, so that every process has full batches."""
        return self.batches * self.batch * self.processes - self.rows if self.processes > 1 else 0

    @property
    def in_last_step(self) -> int:
        return self.rows + self.repeated - (self.steps - 1) * self.pairs_per_step

    def done(self, steps: int) -> float:
        """Return the epochs that so many steps are, as the trainer logs them."""
        whole, rest = divmod(steps, self.steps)
        return whole + rest * self.accumulated / self.batches


def planned_steps(config: TrainConfig, rows: int) -> int:
    """Return the optimiser steps that the options ask for."""
    if config.max_steps > 0:
        return config.max_steps
    return math.ceil(config.num_train_epochs * Epoch.of(config, rows).steps)


def rates(config: TrainConfig, *, steps: int, warmup_steps: int, at: Sequence[int]) -> list[float] | None:
    """Return the learning rate at these steps, counted from 1; None for a schedule that follows the held-out loss."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=config.learning_rate)
    made = get_scheduler(
        config.lr_scheduler_type, optimizer, num_warmup_steps=warmup_steps, num_training_steps=steps,
        scheduler_specific_kwargs=config.lr_scheduler_kwargs,
    )  # fmt: skip
    if not isinstance(made, LambdaLR):
        return None
    return [config.learning_rate * made.lr_lambdas[0](step - 1) for step in at]


def check_rates(config: TrainConfig, *, steps: int, warmup_steps: int) -> None:
    """Raise ConfigError for arguments of the schedule that it cannot be made of, or that give no learning rate."""
    name, hint = config.lr_scheduler_type, "mend `--lr-scheduler-kwargs`"
    at = sorted({*range(1, steps + 1, max(steps // 1000, 1)), warmup_steps + 1, steps})
    try:
        found = rates(config, steps=steps, warmup_steps=warmup_steps, at=at)
    except (ValueError, TypeError, ArithmeticError) as problem:
        raise ConfigError(f"the schedule `{name}` cannot be made with these arguments: {problem}", hint=hint) from None
    for step, rate in zip(at, found or [], strict=False):
        if isinstance(rate, complex) or not 0 <= rate < math.inf:
            raise ConfigError(f"the schedule `{name}` gives a learning rate of {rate} at step {step:,}", hint=hint)
    given = config.lr_scheduler_kwargs or {}
    decay = given.get("num_decay_steps", 0)
    if isinstance(decay, (int, float)) and warmup_steps + decay > steps:
        raise ConfigError(
            f"a decay of {decay:g} steps does not fit into {steps:,} steps with {warmup_steps:,} of warm-up",
            hint=f"--lr-scheduler-kwargs '{json.dumps({**given, 'num_decay_steps': max(steps // 10, 1)})}'",
        )


def tell_extension(config: TrainConfig, *, before: int, now: int, warmup_steps: int, reached: int) -> None:
    """Say what the learning rate will do in a run of `before` steps that goes on from `reached` to `now`."""
    console.info(f"extended  from {before:,} to {now:,} steps, on from step {reached:,}")
    old, new = (rates(config, steps=steps, warmup_steps=warmup_steps, at=[reached + 1, now]) for steps in (before, now))
    name = f"schedule  `{config.lr_scheduler_type}`"
    if old is None or new is None:
        console.info(f"{name} goes on: it follows the held-out loss, not the number of steps")
    elif old == new:
        console.info(f"{name} goes on: learning rate {new[0]:.2e} at step {reached + 1:,}, {new[1]:.2e} at {now:,}")
    else:
        console.info(
            f"{name} is made anew for {now:,} steps: learning rate {new[0]:.2e} at step {reached + 1:,}, where it was "
            f"{old[0]:.2e}, and {new[1]:.2e} at {now:,}; one run of {now:,} steps would have had other rates until here"
        )
