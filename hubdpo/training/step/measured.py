"""TRL's DPOTrainer whose metrics and losses stay on the device until they are logged."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, EvalLoopOutput

from hubdpo.data.encoded.rows import Row
from hubdpo.errors import TrainingError
from hubdpo.training.step.held_out import NamedEvaluations
from hubdpo.training.step.sharded import ShardedDPOTrainer
from hubdpo.training.step.tally import TOTAL, Counts, Metrics, Step, Tally, unread


@dataclass(frozen=True)
class PassLoss:
    """The loss of a forward pass, which is read once the next step is on its way."""

    loss: torch.Tensor
    rows: list[int]
    split: str
    step: int


class MeasuredDPOTrainer(NamedEvaluations, ShardedDPOTrainer):
    """DPOTrainer that weighs every pass by its part of the step, and reads what it measured once a logged step."""

    loss_weights: list[float]
    router_aux_loss_coef: float
    evaluating = False
    """Stays True when an evaluation fails; `model.training` does not tell that from a failed training pass."""
    _held_out: Tally
    _total_train_tokens: int

    def __init__(self, *args: object, **kwargs: object) -> None:
        self._losses: list[PassLoss] = []
        self._merged: dict[str, list[tuple[list[str], torch.Tensor]]] = {"train": [], "eval": []}
        super().__init__(*args, **kwargs)

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
        weights, logged, tokens = [*self.loss_weights], self._metrics[mode], self._total_train_tokens
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
            self.loss_weights, self.router_aux_loss_coef, self._total_train_tokens = weights, auxiliary, tokens
            self._metrics[mode] = logged

    def keep_merged(self, mode: str, tally: Tally, total: Counts) -> None:
        """Keep the metrics of several passes, each as one value, until they are logged."""
        if tally.metrics:
            self._merged[mode].append(tally.merged(total, self._sum_over_processes))

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        self.check_losses()
        self.read_metrics()
        super().log(logs, start_time)

    def read_metrics(self) -> None:
        """Put the metrics of the steps since the last time among those that TRL logs."""
        metrics = self._metrics[self.mode]
        merged, self._merged[self.mode] = self._merged[self.mode], []
        for (names, _), values in zip(merged, _read([vector for _, vector in merged]), strict=True):
            for name, value in zip(names, values, strict=True):
                metrics[name].append(value)
        if merged:
            metrics[TOTAL] = [self._total_train_tokens]

    def _save_checkpoint(self, *args: object, **kwargs: object) -> None:
        self.check_losses()
        super()._save_checkpoint(*args, **kwargs)

    def sum_of_counts(self, counts: Counts) -> Counts:
        if self.accelerator.num_processes == 1:
            return counts
        numbers = torch.tensor(counts.numbers, device=self.accelerator.device)
        return Counts(*self._sum_over_processes(numbers).tolist())

    def _sum_over_processes(self, numbers: torch.Tensor) -> torch.Tensor:
        if self.accelerator.num_processes == 1:
            return numbers
        summed: torch.Tensor = self.accelerator.reduce(numbers)
        return summed


def _read(vectors: list[torch.Tensor]) -> list[list[float]]:
    """Return the numbers of vectors on the device, in one transfer."""
    numbers = iter(torch.cat(vectors).tolist() if vectors else ())
    return [[*islice(numbers, len(vector))] for vector in vectors]
