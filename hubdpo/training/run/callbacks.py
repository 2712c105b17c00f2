"""What happens beside the steps: the metrics file and the checkpoint marker."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

import torch
from torch.optim.lr_scheduler import LambdaLR
from transformers import TrainerCallback

from hubdpo import console
from hubdpo.artefacts.manifests.manifest import METRICS_FILE, write_atomic
from hubdpo.training.run.checkpoints import mark_complete


class MetricsFile(TrainerCallback):
    """Append one JSON object a logged step to metrics.jsonl, with TRL's keys, and tell it in short."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / METRICS_FILE
        self._started = time.monotonic()
        self._first_step: int | None = None

    def forget_after(self, step: int) -> None:
        """Drop what a run that goes on from `step` will log again: later lines, the summary, and a line cut short."""
        kept = [line for line in self.lines() if line["step"] <= step and "train_runtime" not in line]
        write_atomic(self._path, "".join(json.dumps(line) + "\n" for line in kept))

    def lines(self) -> list[dict[str, Any]]:
        """Return what was logged so far; a last line that a kill cut short is left out."""
        lines = []
        for text in self._path.read_text(encoding="utf-8").splitlines() if self._path.exists() else []:
            try:
                lines.append(json.loads(text))
            except ValueError:
                break
        return lines

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self._first_step is None:
            self._first_step, self._started = state.global_step, time.monotonic()

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        if not logs or not state.is_world_process_zero:
            return
        with self._path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({"step": state.global_step, **logs}) + "\n")
        if "loss" in logs or "eval_loss" in logs:
            self._tell(state, logs)

    def _tell(self, state: Any, logs: dict[str, Any]) -> None:
        prefix = "eval_" if "eval_loss" in logs else ""
        done = state.global_step - (self._first_step or 0)
        spent = time.monotonic() - self._started
        left = spent / max(done, 1) * (state.max_steps - state.global_step)
        # counted by TRL from the first step of this process, prompts of both answers included
        tokens = float(logs.get(prefix + "num_tokens", 0))
        console.info(
            f"{'held-out' if prefix else 'step':>8} {state.global_step:>5}/{state.max_steps}"
            f"  loss {float(logs[prefix + 'loss']):.4f}"
            f"  rewards/accuracies {float(logs.get(prefix + 'rewards/accuracies', math.nan)):.3f}"
            f"  rewards/margins {float(logs.get(prefix + 'rewards/margins', math.nan)):+.4f}"
            f"  {tokens / spent:,.0f} tokens/s  {left:.0f} s left"
        )


class CheckpointMarker(TrainerCallback):
    """Write a marker into each checkpoint once it is whole; transformers writes checkpoints in place and has none."""

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.barrier()  # each process writes a part of it
        if state.is_world_process_zero:
            mark_complete(folder, state.global_step)


class OwnOptions(TrainerCallback):
    """Have a resumed run go by its own options, where transformers goes by those that the checkpoint was saved with."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        state.compute_steps(args, state.max_steps)
        # it looks for the end after a step alone, and would train a run that was killed after its last step on
        control.should_training_stop = state.global_step >= state.max_steps
        schedule = kwargs.get("lr_scheduler")
        if not isinstance(schedule, LambdaLR):
            return
        # the optimizer's state holds the next rate of the schedule as it was when it was saved
        pairs = zip(schedule.base_lrs, schedule.lr_lambdas, strict=True)
        rates = [base * rate(schedule.last_epoch) for base, rate in pairs]
        for group, rate in zip(schedule.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        schedule._last_lr = rates
