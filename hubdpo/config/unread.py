"""Options that a run does not read, because of its other options: transformers takes them and says nothing."""

from __future__ import annotations

from collections.abc import Iterator

from hubdpo.config.base import flag_of
from hubdpo.config.train import TrainConfig

# as transformers 5.23 makes schedules (get_scheduler) and optimisers (trainer_optimizer.py)
WITHOUT_WARMUP = frozenset({"constant", "reduce_lr_on_plateau", "greedy"})
WITHOUT_BETAS = ("adafactor", "sgd", "adagrad", "rmsprop")
"""Beginnings of the names of optimisers that read no `--adam-...`."""


def unread(config: TrainConfig) -> Iterator[str]:
    """Yield a sentence for each option that was given another value than its default, and has no effect."""
    of_adam = ["adam_beta1", "adam_beta2", "adam_epsilon"] if config.optim.startswith(WITHOUT_BETAS) else []
    if "lion" in config.optim:
        of_adam = ["adam_epsilon"]
    yield from _without_effect(config, of_adam, f"with --optim {config.optim}")
    if config.lr_scheduler_type in WITHOUT_WARMUP:
        for name in ("warmup_steps", "warmup_ratio"):
            if name in config.model_fields_set and getattr(config, name):  # the default warm-up is nobody's wish
                yield f"{flag_of(name)} has no effect with --lr-scheduler-type {config.lr_scheduler_type}"
    if config.max_steps > 0:
        yield from _without_effect(config, ["num_train_epochs"], f"with --max-steps {config.max_steps}, which counts")
    if config.early_stopping_patience is None:
        yield from _without_effect(config, ["early_stopping_threshold"], "without --early-stopping-patience")
    if not config.chooses:
        yield from _without_effect(
            config, ["metric_for_best_model"], "without --load-best-model-at-end or --early-stopping-patience"
        )
    if not config.report_to:
        yield from _without_effect(config, ["run_name", "project"], "without --report-to")


def _without_effect(config: TrainConfig, names: list[str], why: str) -> Iterator[str]:
    for name in config.changed(*names):
        yield f"{flag_of(name)} has no effect {why}"
