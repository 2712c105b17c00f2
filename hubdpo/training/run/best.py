"""Choose a checkpoint by its evaluation on held-out pairs, and stop when they no longer improve.

Both follow from the logged history alone, which every checkpoint holds: a resumed run decides as if it had not stopped.
transformers' own `load_best_model_at_end` looks for TRL's metrics in vain, and keeps the path of the folder.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path

from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hubdpo import console
from hubdpo.artefacts.folders.model_files import ADAPTER_WEIGHTS
from hubdpo.artefacts.manifests.chosen import ChosenStep
from hubdpo.config import TrainConfig
from hubdpo.errors import ArtefactError
from hubdpo.model.adapters.load import restore_bits
from hubdpo.training.run.output_folder import damage_of

Line = Mapping[str, float]


def evaluations(history: Iterable[Line], metric: str) -> list[tuple[int, float]]:
    """Return (step, value) of the logged lines that have the metric."""
    return [(int(line["step"]), float(line[metric])) for line in history if metric in line]


def is_better(metric: str, value: float, than: float) -> bool:
    """Tell whether a value is better: a lower loss, a higher accuracy or margin. NaN is worse than any."""
    if math.isnan(than):
        return not math.isnan(value)
    return value < than if metric.endswith("loss") else value > than


def without_improvement(history: Iterable[Line], metric: str, threshold: float) -> int:
    """Return how many evaluations in a row, up to the last, were not better than the best before by the threshold."""
    best, count = None, 0
    for _, value in evaluations(history, metric):
        improved = best is None or (is_better(metric, value, best) and abs(value - best) > threshold)
        count = 0 if improved else count + 1
        if best is None or is_better(metric, value, best):
            best = value
    return count


def best_step(history: Iterable[Line], metric: str, *, saved_every: int, last: int | None = None) -> ChosenStep | None:
    """Return the first step with the best value, of those that were saved: every so many, and the last."""
    saved = [(step, value) for step, value in evaluations(history, metric) if step % saved_every == 0 or step == last]
    best = None
    for step, value in saved:
        if best is None or is_better(metric, value, best[1]):
            best = step, value
    return ChosenStep(step=best[0], metric=metric, value=best[1], of=len(saved)) if best else None


class Selection(TrainerCallback):
    """Keep the best checkpoint so far from being deleted, and stop the run when its patience is used up."""

    def __init__(self, config: TrainConfig) -> None:
        self._config = config

    def stopped(self, state: TrainerState) -> bool:
        """Tell whether the last evaluation used up the patience."""
        patience, threshold = self._config.early_stopping_patience, self._config.early_stopping_threshold
        metric = self._config.metric_for_best_model
        return patience is not None and without_improvement(state.log_history, metric, threshold) >= patience

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        self._protect(args, state)
        if self.stopped(state):
            control.should_training_stop = True

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        self._protect(args, state)
        if self.stopped(state) and not control.should_training_stop:
            evaluations = console.counted(self._config.early_stopping_patience or 0, "evaluation")
            console.info(
                f"stopped   early at step {state.global_step:,}: {self._config.metric_for_best_model} has not "
                f"improved for {evaluations}"
            )
            control.should_training_stop = control.should_save = True

    def _protect(self, args: TrainingArguments, state: TrainerState) -> None:
        if not self._config.load_best_model_at_end:
            return
        metric, every = self._config.metric_for_best_model, self._config.save_steps
        best = best_step(state.log_history, metric, saved_every=every, last=state.global_step)
        # transformers deletes other checkpoints first
        folder = Path(args.output_dir) / f"checkpoint-{best.step}" if best else None
        state.best_model_checkpoint = str(folder) if folder else None


def take_best(trainer: Trainer, config: TrainConfig) -> ChosenStep | None:
    """Give the model the adapter of the best checkpoint. Raise ArtefactError when it is gone, or is no longer whole."""
    state = trainer.state
    best = best_step(
        state.log_history, config.metric_for_best_model, saved_every=config.save_steps, last=state.global_step
    )
    if best is None:
        return None
    folder = config.output_dir / f"checkpoint-{best.step}"
    if (damage := damage_of(folder)) is not None:
        raise ArtefactError(
            f"the best checkpoint, `{folder}`, is damaged ({damage})", hint="restore it, then resume with `--resume`"
        )
    if best.step < state.global_step:
        restore_bits(trainer.model, folder / ADAPTER_WEIGHTS)
    console.info(f"best      step {best.step:,} of {state.global_step:,}, by {best.metric} {best.value:.4f}")
    return best
