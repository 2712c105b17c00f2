"""Callbacks of the trainer: the metrics file, the checkpoint marker, and the options of a resumed run."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path

import torch
from torch.optim.lr_scheduler import LambdaLR, LRScheduler
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hubdpo import console
from hubdpo.artefacts.manifests.manifest import METRICS_FILE, write_atomic
from hubdpo.training.run.output_folder import mark_complete

Metrics = dict[str, float]
"""One line of metrics.jsonl: `step`, and TRL's keys."""


class MetricsFile(TrainerCallback):
    """Append one JSON object per logged step to metrics.jsonl, with TRL's keys, and print a short line of it."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / METRICS_FILE
        self._started = time.monotonic()
        self._first_step: int | None = None

    def forget_after(self, step: int) -> None:
        """Drop the lines that a run resumed at `step` logs again: later steps, the summary, and a line cut short."""
        kept = [line for line in self.lines() if line["step"] <= step and "train_runtime" not in line]
        write_atomic(self._path, "".join(json.dumps(line) + "\n" for line in kept))

    def lines(self) -> list[Metrics]:
        """Return the logged lines, without a last line that a kill cut short."""
        lines = []
        for text in self._path.read_text(encoding="utf-8").splitlines() if self._path.exists() else []:
            try:
                lines.append(json.loads(text))
            except ValueError:
                break
        return lines

    def on_step_begin(self, args: object, state: TrainerState, control: object, **kwargs: object) -> None:
        if self._first_step is None:
            self._first_step, self._started = state.global_step, time.monotonic()

    def on_log(
        self, args: object, state: TrainerState, control: object, logs: Metrics | None = None, **kwargs: object
    ) -> None:
        if not logs or not state.is_world_process_zero:
            return
        with self._path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({"step": state.global_step, **logs}) + "\n")
        if "loss" in logs or "eval_loss" in logs:
            self._print(state, logs)

    def _print(self, state: TrainerState, logs: Mapping[str, float]) -> None:
        prefix = "eval_" if "eval_loss" in logs else ""
        done = state.global_step - (self._first_step or 0)
        seconds = time.monotonic() - self._started
        left = seconds / max(done, 1) * (state.max_steps - state.global_step)
        # TRL counts both sides of each pair, prompts included, from the first step of this process
        tokens = float(logs.get(prefix + "num_tokens", 0))
        console.info(
            f"{'held-out' if prefix else 'step':>8} {state.global_step:>5}/{state.max_steps}"
            f"  loss {float(logs[prefix + 'loss']):.4f}"
            f"  rewards/accuracies {float(logs.get(prefix + 'rewards/accuracies', math.nan)):.3f}"
            f"  rewards/margins {float(logs.get(prefix + 'rewards/margins', math.nan)):+.4f}"
            f"  {tokens / seconds:,.0f} tokens/s  {left:.0f} s left"
        )


class CheckpointMarker(TrainerCallback):
    """Mark each checkpoint as complete; transformers writes checkpoints in place and has no marker."""

    def on_save(self, args: TrainingArguments, state: TrainerState, control: object, **kwargs: object) -> None:
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.barrier()  # each process writes a part of it
        if state.is_world_process_zero:
            mark_complete(folder, state.global_step)


class OwnOptions(TrainerCallback):
    """Make a resumed run follow its own options; transformers would follow those saved in the checkpoint."""

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        lr_scheduler: LRScheduler | None = None,
        **kwargs: object,
    ) -> None:
        state.compute_steps(args, state.max_steps)
        # transformers looks for the end only after a step, and would train on a run that was killed after its last one
        control.should_training_stop = state.global_step >= state.max_steps
        if not isinstance(lr_scheduler, LambdaLR):
            return
        # the loaded optimizer state holds the next learning rate of the schedule that was saved
        pairs = zip(lr_scheduler.base_lrs, lr_scheduler.lr_lambdas, strict=True)
        rates = [base * rate(lr_scheduler.last_epoch) for base, rate in pairs]
        for group, rate in zip(lr_scheduler.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        lr_scheduler._last_lr = rates
