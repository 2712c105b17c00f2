"""Seconds, tokens and peak memory of a run over all of its starts, as far as its adapter has them.

A checkpoint keeps them, and a resumed run goes on from those of its checkpoint. What was trained after it before a kill
is not counted: those steps are taken again.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from transformers import TrainerCallback, TrainerState, TrainingArguments
from transformers.trainer_callback import ExportableState

from hubdpo.model.memory import peak_bytes

Logs = dict[str, float]
SUMMARY = "train_loss"
"""The metric that only the last line of a run has, which sums it up."""


@dataclass(frozen=True)
class Total:
    """What all starts of a run took together; `tokens` are those of all processes, `peak_bytes` of the first."""

    seconds: float = 0.0
    tokens: int = 0
    peak_bytes: int = 0


class Spent(TrainerCallback, ExportableState):
    """What this start took, and what the starts before it took up to the checkpoint that it goes on from."""

    def __init__(self) -> None:
        self.tokens = 0
        """Tokens of this start, which the trainer counts."""
        self.is_resumed = False
        self._before: Total | None = Total()
        self._began = time.monotonic()
        self._device = "cpu"

    @property
    def seconds(self) -> float:
        """Seconds since the first step of this start, evaluations and checkpoints included."""
        return time.monotonic() - self._began

    @property
    def total(self) -> Total | None:
        """What the run took so far; None where its checkpoint is of a hubdpo that did not keep it."""
        if (before := self._before) is None:
            return None
        peak = max(before.peak_bytes, peak_bytes(self._device))
        return Total(before.seconds + self.seconds, before.tokens + self.tokens, peak)

    def state(self) -> dict[str, Any]:
        """Return what transformers writes into `trainer_state.json` of a checkpoint."""
        return {"args": {}, "attributes": asdict(self.total) if self.total else {}}

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: object, **kwargs: object) -> None:
        self._began, self._device, self.is_resumed = time.monotonic(), args.device.type, state.global_step > 0
        if self.is_resumed:
            # transformers writes only the states whose names it read
            saved = state.stateful_callbacks.setdefault(type(self).__name__, {}).get("attributes")
            self._before = Total(**saved) if saved else None

    def summary(self, logs: Logs, state: TrainerState, *, pairs_a_step: int) -> Logs:
        """Return the last line of a resumed run with time, speed and mean loss of all starts, not of this one alone.

        Time and speed are left out where they are not known.
        """
        own = {name: value for name, value in logs.items() if not name.endswith(("_runtime", "_per_second"))}
        own[SUMMARY] = _mean_loss(state.log_history, otherwise=logs[SUMMARY])
        if (total := self.total) is None or not total.seconds:
            return own
        steps = state.global_step / total.seconds
        return own | {
            "train_runtime": round(total.seconds, 4),
            "train_samples_per_second": round(steps * pairs_a_step, 3),
            "train_steps_per_second": round(steps, 3),
        }


def _mean_loss(history: Sequence[Mapping[str, float]], *, otherwise: float) -> float:
    """Return the mean of the logged losses over their steps; `otherwise` where none is logged."""
    logged = [(line["step"], line["loss"]) for line in history if "loss" in line]
    ends = [0.0, *(step for step, _ in logged)]
    total = sum(loss * (step - start) for (step, loss), start in zip(logged, ends, strict=False))
    return total / ends[-1] if logged else otherwise
