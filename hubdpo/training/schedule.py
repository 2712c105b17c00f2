"""The arithmetic of a run: its optimiser steps, counted as the trainer counts them, and its learning rates."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch.optim.lr_scheduler import LambdaLR
from transformers import get_scheduler

from hubdpo import console
from hubdpo.config import TrainConfig
from hubdpo.config.unread import unread
from hubdpo.data.tokens.tokenize import Account
from hubdpo.errors import ConfigError


class Batches(NamedTuple):
    """The pairs in a batch of one process, and the batches in a step."""

    pairs: int
    accumulated: int


def batches_of(config: TrainConfig) -> Batches:
    """Return the size of a batch, which is a whole step where it is cut into passes."""
    if config.tokens_per_batch is not None or config.group_prompts:
        return Batches(config.pairs_per_process, 1)
    return Batches(config.per_device_train_batch_size, config.gradient_accumulation_steps)


@dataclass(frozen=True)
class Epoch:
    """One pass over `rows` pairs. Its last step is short when they do not fill it; the next epoch starts a new one."""

    rows: int
    batch: int
    accumulated: int
    processes: int

    @classmethod
    def of(cls, config: TrainConfig, rows: int) -> Epoch:
        batches = batches_of(config)
        return cls(rows, batches.pairs, batches.accumulated, config.num_processes)

    @property
    def batches(self) -> int:
        """Batches of each process; accelerate gives every process the same number."""
        # the last batch may be short, and then processes that get none repeat batches of the beginning
        return math.ceil(math.ceil(self.rows / self.batch) / self.processes)

    @property
    def steps(self) -> int:
        return math.ceil(self.batches / self.accumulated)

    @property
    def pairs_per_step(self) -> int:
        return self.batch * self.accumulated * self.processes

    @property
    def repeated(self) -> int:
        """Pairs that accelerate repeats, so that every process has full batches."""
        return self.batches * self.batch * self.processes - self.rows if self.processes > 1 else 0

    @property
    def in_last_step(self) -> int:
        return self.rows + self.repeated - (self.steps - 1) * self.pairs_per_step

    def done(self, steps: int) -> float:
        """Return the epochs that `steps` steps make, as the trainer logs them."""
        whole, rest = divmod(steps, self.steps)
        return whole + rest * self.accumulated / self.batches


def planned_steps(config: TrainConfig, rows: int) -> int:
    """Return the optimiser steps that the options ask for."""
    if config.max_steps > 0:
        return config.max_steps
    return math.ceil(config.num_train_epochs * Epoch.of(config, rows).steps)


def rates(config: TrainConfig, *, steps: int, warmup_steps: int, at: Sequence[int]) -> list[float] | None:
    """Return the learning rate at the steps `at`, counted from 1; None when the schedule follows the held-out loss."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=config.learning_rate)
    schedule = get_scheduler(
        config.lr_scheduler_type, optimizer, num_warmup_steps=warmup_steps, num_training_steps=steps,
        scheduler_specific_kwargs=config.lr_scheduler_kwargs,
    )  # fmt: skip
    if not isinstance(schedule, LambdaLR):
        return None
    return [config.learning_rate * schedule.lr_lambdas[0](step - 1) for step in at]


def check_rates(config: TrainConfig, *, steps: int, warmup_steps: int) -> None:
    """Raise ConfigError when `--lr-scheduler-kwargs` do not make a schedule, or its learning rates are not usable."""
    name, hint = config.lr_scheduler_type, "correct `--lr-scheduler-kwargs`"
    at = sorted({*range(1, steps + 1, max(steps // 1000, 1)), warmup_steps + 1, steps})
    try:
        sampled = rates(config, steps=steps, warmup_steps=warmup_steps, at=at)
    except (ValueError, TypeError, ArithmeticError) as error:
        raise ConfigError(f"the schedule `{name}` cannot be made with these arguments: {error}", hint=hint) from None
    for step, rate in zip(at, sampled or [], strict=False):
        if isinstance(rate, complex) or not 0 <= rate < math.inf:
            raise ConfigError(f"the schedule `{name}` gives a learning rate of {rate} at step {step:,}", hint=hint)
    if warmup_steps > steps:
        raise ConfigError(
            f"a warm-up of {console.counted(warmup_steps, 'step')} does not fit into {console.counted(steps, 'step')}",
            hint=f"--warmup-steps {steps // 10}",
        )
    arguments = config.lr_scheduler_kwargs or {}
    decay = arguments.get("num_decay_steps", 0)
    if isinstance(decay, (int, float)) and warmup_steps + decay > steps:
        raise ConfigError(
            f"a decay of {decay:g} steps does not fit into {console.counted(steps, 'step')} with {warmup_steps:,} of "
            "warm-up",
            hint=f"--lr-scheduler-kwargs '{json.dumps({**arguments, 'num_decay_steps': max(steps // 10, 1)})}'",
        )


def print_plan(config: TrainConfig, account: Account, device: str, epoch: Epoch, steps: int) -> None:
    """Print what the run will do: device, base, pairs, and the arithmetic of its steps."""
    console.info(f"device    {device}{', because no CUDA device was chosen or found' if device == 'cpu' else ''}")
    quantised = ("NF4" if config.load_in_4bit else "not quantised") + f", {config.dtype}" * (config.dtype != "auto")
    console.info(f"base      {config.model_name_or_path}, {quantised}, LoRA r {config.lora_r}")
    tokens = account.counts["tokens"] / (2 * epoch.rows)
    rows = console.counted(account.counts["rows"], "row")
    console.info(f"pairs     {epoch.rows:,} of {rows}, {tokens:.0f} tokens a sequence")
    for sentence in [*unread(config), *account.remarks()]:
        console.warn(sentence)
    passes = f"{config.per_device_train_batch_size} a forward pass, {config.gradient_accumulation_steps} accumulated"
    if config.tokens_per_batch == "auto":
        passes = "as many tokens a forward pass as memory holds"
    elif config.tokens_per_batch:
        passes = f"{config.tokens_per_batch:,} tokens a forward pass"
    if config.num_processes > 1:
        passes += f", {config.num_processes} processes"
    pairs = console.counted(epoch.pairs_per_step, "pair")
    console.info(f"steps     {steps:,} x {pairs} ({passes}) = {epoch.done(steps):.2f} epochs")
    if steps >= epoch.steps and epoch.in_last_step < epoch.pairs_per_step:
        console.info(f"          the last step of each epoch has {console.counted(epoch.in_last_step, 'pair')}")
    if epoch.repeated:
        console.info(f"          pairs repeated in each epoch, to give every process the same number: {epoch.repeated}")
    patience, evaluations = config.early_stopping_patience, (steps - 1) // config.eval_steps
    if patience is not None and evaluations <= patience:
        console.warn(
            f"early stopping cannot act: it waits for {console.counted(patience + 1, 'evaluation')}, and before the "
            f"last step there is one every {config.eval_steps:,} of {console.counted(steps, 'step')}"
        )
    if config.learning_rate > 5e-5:
        console.warn(f"learning rate {config.learning_rate:g} is high for preferences with LoRA; 5e-6 is usual")
    if "simpo" in config.loss_type and config.beta < 1:
        console.warn(f"beta {config.beta:g} is low for simpo, which takes means over tokens; 2 to 10 is usual")


def print_extension(config: TrainConfig, *, before: int, now: int, warmup_steps: int, reached: int) -> None:
    """Print what the learning rate does when a run of `before` steps continues from step `reached` to step `now`."""
    console.info(f"extended  from {before:,} to {now:,} steps, on from step {reached:,}")
    old, new = (rates(config, steps=steps, warmup_steps=warmup_steps, at=[reached + 1, now]) for steps in (before, now))
    name = f"schedule  `{config.lr_scheduler_type}`"
    if old is None or new is None:
        console.info(f"{name} continues: it follows the held-out loss, not the number of steps")
    elif old == new:
        console.info(f"{name} continues: learning rate {new[0]:.2e} at step {reached + 1:,}, {new[1]:.2e} at {now:,}")
    else:
        console.info(
            f"{name} is recomputed for {now:,} steps: learning rate {new[0]:.2e} at step {reached + 1:,}, where it was "
            f"{old[0]:.2e}, and {new[1]:.2e} at {now:,}; one run of {now:,} steps would have had other rates until here"
        )
