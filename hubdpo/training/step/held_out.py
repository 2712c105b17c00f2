"""Evaluate on several datasets, each with TRL's metrics under its own name."""

from __future__ import annotations

from collections.abc import Callable
from statistics import fmean

from trl import DPOTrainer

from hubdpo.data.encoded.rows import TokenRows

TEST = ""
"""Name of the test split among the evaluation sets: its metrics are `eval_loss` and so on."""
Sets = dict[str, TokenRows]


class NamedEvaluations(DPOTrainer):
    """DPOTrainer that logs `eval_NAME_rewards/accuracies`; TRL logs those of every set as `eval_rewards/accuracies`."""

    evaluated = TEST
    """Name of the set whose evaluation runs."""

    def evaluate(
        self,
        eval_dataset: TokenRows | str | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        if eval_dataset is not None or not isinstance(self.eval_dataset, dict):
            return dict(super().evaluate(eval_dataset, ignore_keys, metric_key_prefix))
        metrics: dict[str, float] = {}
        try:
            for name in self.eval_dataset:
                self.evaluated = name
                prefix = f"{metric_key_prefix}_{name}" if name else metric_key_prefix
                metrics |= super().evaluate(name, ignore_keys, prefix)
        finally:
            self.evaluated = TEST
        return metrics

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if self.evaluated and not self.model.training:
            own = {f"eval_{self.evaluated}_{key}": fmean(values) for key, values in self._metrics["eval"].items()}
            self._metrics["eval"].clear()
            logs.update(own)
        super().log(logs, start_time)


def held_out(test: TokenRows | None, sets: Sets) -> TokenRows | Sets | None:
    """Return what the trainer evaluates on: the test split alone, or all sets by name."""
    if not sets:
        return test
    return ({TEST: test} if test is not None else {}) | sets


def each(data: TokenRows | Sets | None, change: Callable[[TokenRows], TokenRows]) -> TokenRows | Sets | None:
    """Change the dataset, or every set of several."""
    if isinstance(data, dict):
        return {name: change(rows) for name, rows in data.items()}
    return None if data is None else change(data)
