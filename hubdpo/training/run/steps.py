"""Callbacks between steps: print a line of each log and a progress bar, and stop where a signal asked for it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from rich.progress import Progress
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hubdpo import console
from hubdpo.machine.endings import LAUNCHED, asked_to_stop, can_be_asked
from hubdpo.machine.signals import STOPPING, first_signal_asks
from hubdpo.training.step.spent import Spent

SHOWN = {"loss": "loss {:.4f}", "rewards/accuracies": "accuracy {:.3f}", "rewards/margins": "margin {:+.4f}"}
"""TRL's metrics in a line, and how they are written there: a line fits into 80 columns."""


class StepLines(TrainerCallback):
    """Print one line for each log and each evaluation, and on a terminal a bar with the time that is left."""

    def __init__(self, spent: Spent) -> None:
        self.bar: Progress | None = None
        self._spent = spent
        self._first_step = 0

    def on_train_begin(self, args: object, state: TrainerState, control: object, **kwargs: object) -> None:
        self._first_step = state.global_step
        self._advance(state.global_step)

    def on_step_end(self, args: object, state: TrainerState, control: object, **kwargs: object) -> None:
        self._advance(1)

    def _advance(self, steps: int) -> None:
        if self.bar is not None:
            self.bar.update(self.bar.task_ids[0], advance=steps)

    def on_log(
        self, args: object, state: TrainerState, control: object, logs: Mapping[str, float] | None = None,
        **kwargs: object,
    ) -> None:  # fmt: skip
        if not logs or not state.is_world_process_zero or _prefix(logs) is None:
            return
        # of this start alone: an earlier one may have run on another machine
        seconds, tokens = self._spent.seconds, self._spent.tokens
        if self.bar is not None and tokens:
            self.bar.update(self.bar.task_ids[0], note=f"{tokens / seconds:,.0f} tokens/s")
        console.info(step_line(logs, state, seconds_a_step=seconds / max(state.global_step - self._first_step, 1)))


def step_line(logs: Mapping[str, float], state: TrainerState, *, seconds_a_step: float) -> str:
    """Return the line of a log: the step, TRL's metrics, and the time that is left."""
    prefix = _prefix(logs) or ""
    name = prefix[len("eval_") : -1] or ("held-out" if prefix else "step")
    values = [form.format(logs[prefix + key]) for key, form in SHOWN.items() if prefix + key in logs]
    left = console.duration(seconds_a_step * (state.max_steps - state.global_step))
    step = f"{name:>8} {state.global_step:>{len(str(state.max_steps))}}/{state.max_steps}"
    return "  ".join([step, *values, f"{left} left"])


def _prefix(logs: Mapping[str, float]) -> str | None:
    """Return what stands before the names of the metrics: nothing, `eval_`, `eval_NAME_`; None if there are none."""
    if "loss" in logs or "eval_loss" in logs:
        return "eval_" if "eval_loss" in logs else ""
    return next((key[: -len("loss")] for key in logs if key.startswith("eval_") and key.endswith("_loss")), None)


class StopAtStep(TrainerCallback):
    """Once the run is asked to stop, end it with a checkpoint of the step, or evaluation, under way.

    A signal asks this process; a process that was launched is asked by its launcher.
    """

    def __init__(self) -> None:
        self.stops = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take signals in the body; once they have stopped the run, raise KeyboardInterrupt."""
        with can_be_asked() if LAUNCHED in os.environ else first_signal_asks(self._stop):
            yield
        if self.stops and LAUNCHED not in os.environ:
            raise KeyboardInterrupt  # in the processes that got no signal

    def _stop(self) -> bool:
        self.stops = True
        console.info(STOPPING)
        return True

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        stops = self.stops or asked_to_stop()
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            # they are asked at different steps, and a checkpoint needs all of them
            any_stops = torch.tensor([int(stops)], device=args.device)
            torch.distributed.all_reduce(any_stops, torch.distributed.ReduceOp.MAX)
            stops = bool(any_stops)
        if stops:
            self.stops = control.should_save = control.should_training_stop = True

    on_evaluate = on_step_end

    def on_save(self, args: TrainingArguments, state: TrainerState, control: object, **kwargs: object) -> None:
        if self.stops and state.is_world_process_zero:
            console.info(f"saved     {Path(args.output_dir) / f'checkpoint-{state.global_step}'}")
