"""TRL's DPOTrainer whose metrics and losses stay on the device until they are logged, under the name of their set."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import torch
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, EvalLoopOutput

from hubdpo.data.encoded.rows import Row, TokenRows
from hubdpo.errors import TrainingError
from hubdpo.training.step.sharded import ShardedDPOTrainer
from hubdpo.training.step.spent import SUMMARY, Spent
from hubdpo.training.step.tally import TOTAL, Counts, Metrics, Step, Tally, unread

TEST = ""
"""Name of the test split among the evaluation sets: its metrics are `eval_loss` and so on."""
Sets = dict[str, TokenRows]


@dataclass(frozen=True)
class PassLoss:
    """The loss of a forward pass, which is read once the next step is on its way."""

    loss: torch.Tensor
    rows: list[int]
    split: str
    step: int


class MeasuredDPOTrainer(ShardedDPOTrainer):
    """DPOTrainer that weighs every pass by its part of the step, and reads what it measured once a logged step."""

    loss_weights: list[float]
    router_aux_loss_coef: float
    evaluated = TEST
    """Name of the set whose evaluation runs."""
    evaluating = False
    """Stays True when an evaluation fails; `model.training` does not tell that from a failed training pass."""
    _held_out: Tally
    spent: Spent

    def __init__(self, *args: object, **kwargs: object) -> None:
        self._losses: list[PassLoss] = []
        self._merged: dict[str, list[tuple[list[str], torch.Tensor]]] = {"train": [], "eval": []}
        self.spent = Spent()
        super().__init__(*args, **kwargs)
        self.add_callback(self.spent)

    @property
    def mode(self) -> str:
        """TRL's name for what the model does, `train` or `eval`."""
        return "train" if self.model.training else "eval"

    def floating_point_ops(self, inputs: Sequence[Row]) -> int:
        return 6 * Counts.of(inputs).tokens * self._parameters

    @functools.cached_property
    def _parameters(self) -> int:
        return int(self.model.num_parameters(exclude_embeddings=True))

    def note_loss(self, loss: torch.Tensor, rows: list[int]) -> None:
        """Keep the loss of a pass for the next check."""
        split = "train" if self.model.training else "test"
        self._losses.append(PassLoss(loss.detach(), rows, split, self.state.global_step + 1))

    def check_losses(self) -> None:
        """Raise TrainingError if a loss since the last check is not finite.

        Nothing is saved or logged before the losses up to then are checked.
        """
        waiting, self._losses = self._losses, []
        if not waiting:
            return
        values = torch.stack([one.loss.float() for one in waiting]).tolist()
        for one, value in zip(waiting, values, strict=True):
            if not -float("inf") < value < float("inf"):
                rows = ", ".join(map(str, one.rows)) or "unknown"
                saved = any(Path(self.args.output_dir).glob(f"{PREFIX_CHECKPOINT_DIR}-*"))
                kept = "the last complete checkpoint is kept" if saved else "nothing was saved yet"
                raise TrainingError(
                    f"the loss is {value} at step {one.step}, in rows {rows} of the {one.split} split; {kept}",
                    hint="look at those rows; a lower `--learning-rate`"
                    + (" is another run, with an `--output-dir` of its own" if saved else " may help"),
                )

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

    def evaluation_loop(self, *args: object, **kwargs: object) -> EvalLoopOutput:
        self._held_out, self.evaluating = Tally(), True
        output = super().evaluation_loop(*args, **kwargs)
        self.evaluating = False
        total = self.sum_of_counts(sum(self._held_out.counts, Counts()))
        self.keep_merged("eval", self._held_out, total)
        self.check_losses()
        return output

    @contextlib.contextmanager
    def measured(self, mode: str, step: Step, tally: Tally, counts: Counts, divided_by: int = 1) -> Iterator[None]:
        """Weigh the pass of the body by its part of the step, and put what TRL measures into a tally.

        None of it is read, and none is yet among the metrics that TRL logs.
        """
        weights, logged = [*self.loss_weights], self._metrics[mode]
        auxiliary = self.router_aux_loss_coef
        *self.loss_weights, self.router_aux_loss_coef = step.loss_weights(
            counts, [*self.loss_types, "aux_loss"], [*weights, auxiliary], divided_by=divided_by
        )
        self._metrics[mode] = own = Metrics(list)
        try:
            with unread(self.accelerator):
                yield
            tally.add(counts, own)
        finally:
            self.loss_weights, self.router_aux_loss_coef = weights, auxiliary
            self._metrics[mode] = logged

    def keep_merged(self, mode: str, tally: Tally, total: Counts) -> None:
        """Keep the metrics of several passes, each as one value, until they are logged."""
        if tally.metrics:
            self._merged[mode].append(tally.merged(total, self.accelerator.reduce))

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        self.check_losses()
        self.read_metrics()
        if self.evaluated and not self.model.training:
            # TRL logs those of every set as `eval_rewards/accuracies`
            own = {f"eval_{self.evaluated}_{key}": fmean(values) for key, values in self._metrics["eval"].items()}
            self._metrics["eval"].clear()
            logs.update(own)
        if SUMMARY in logs and self.spent.is_resumed:
            logs = self.spent.summary(logs, self.state, pairs_a_step=self.get_total_train_batch_size(self.args))
        super().log(logs, start_time)

    def read_metrics(self) -> None:
        """Put the metrics of the steps since the last time among those that TRL logs, with one transfer."""
        merged, self._merged[self.mode] = self._merged[self.mode], []
        if not merged:
            return
        metrics, names = self._metrics[self.mode], [name for names, _ in merged for name in names]
        for name, value in zip(names, torch.cat([vector for _, vector in merged]).tolist(), strict=True):
            metrics[name].append(value)
        if (total := self.spent.total) is not None:
            metrics[TOTAL] = [total.tokens]

    def _save_checkpoint(self, *args: object, **kwargs: object) -> None:
        self.check_losses()
        super()._save_checkpoint(*args, **kwargs)

    def sum_of_counts(self, counts: Counts) -> Counts:
        if self.accelerator.num_processes == 1:
            return counts
        numbers = torch.tensor(counts.numbers, device=self.accelerator.device)
        return Counts(*self.accelerator.reduce(numbers).tolist())


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
