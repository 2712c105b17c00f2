"""Weigh the passes of a step, and keep what TRL measures in them on the device until it is logged.

TRL reads about twenty numbers of every pass back to the CPU, and gathers each over the processes by itself. A GPU
stands still meanwhile, as the CPU can launch no kernel before it has the number. Here a metric stays a tensor; a step
has one vector of them, which is summed over the processes at once and read when it is logged.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from hubdpo.data.encoded.rows import SIDES, Row
from hubdpo.training.step.batch import scored_tokens

Metrics = defaultdict[str, list[Any]]
"""TRL's metrics of a mode, by name: a value for each pass or step since they were logged."""
TOTAL = "num_tokens"
"""The metric that TRL accumulates over the run. Counts have it, so it is never read from the device."""
ACCURACY, MARGIN = "rewards/accuracies", "rewards/margins"
TIED = 0.5


@dataclass(frozen=True)
class Counts:
    """The pairs of a batch, the scored tokens of its chosen and of its rejected answers, and all its real tokens."""

    pairs: int = 0
    chosen: int = 0
    rejected: int = 0
    tokens: int = 0

    @classmethod
    def of(cls, rows: Sequence[Row]) -> Counts:
        tokens = sum(2 * len(row["prompt_ids"]) + len(row["chosen_ids"]) + len(row["rejected_ids"]) for row in rows)
        chosen, rejected = (sum(scored_tokens(row, side) for row in rows) for side in SIDES)
        return cls(len(rows), chosen, rejected, tokens)

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(one + two for one, two in zip(self.numbers, other.numbers, strict=True)))

    @property
    def numbers(self) -> tuple[int, ...]:
        return self.pairs, self.chosen, self.rejected, self.tokens


class Unread:
    """A number on the device, as TRL computes with it, without being read.

    TRL divides by a total only if it is above 0. What it divides is 0 where the total is, so 1 does as a divisor.
    """

    def __init__(self, value: torch.Tensor) -> None:
        self.value = value.detach()

    def sum(self) -> Unread:
        return Unread(self.value.sum())

    def mean(self) -> Unread:
        # in float32: a mean of numbers in 16 bits would lose what a sum over passes keeps
        return Unread(self.value.float().mean())

    def item(self) -> Unread:
        return self

    def __gt__(self, other: float) -> bool:
        return True

    def __truediv__(self, total: Unread) -> Unread:
        return Unread(self.value / total.value.clamp(min=1))

    def __floordiv__(self, parts: int) -> Unread:
        return Unread(self.value // parts)

    def __radd__(self, other: object) -> object:
        return other  # TRL's count of tokens, which `Counts` keeps


@contextmanager
def unread(accelerator: Any) -> Iterator[None]:
    """Let TRL measure its metrics in the body on this process alone, and read none of them."""
    accelerator.gather = accelerator.gather_for_metrics = Unread
    try:
        yield
    finally:
        del accelerator.gather, accelerator.gather_for_metrics


@dataclass
class Tally:
    """The passes so far: the counts of each, and what TRL measured in it."""

    counts: list[Counts] = field(default_factory=list)
    metrics: list[Mapping[str, torch.Tensor]] = field(default_factory=list)

    def add(self, counts: Counts, metrics: Mapping[str, Sequence[Any]]) -> None:
        """Add a pass. Its metrics are Unread, or tensors without dimensions."""
        values = {
            name: value.value if isinstance(value, Unread) else torch.as_tensor(value)
            for name, (*_, value) in metrics.items()
            if name != TOTAL
        }
        self.counts.append(counts)
        self.metrics.append(values | _ties(values))

    def merged(
        self, total: Counts, over_processes: Callable[[torch.Tensor], torch.Tensor]
    ) -> tuple[list[str], torch.Tensor]:
        """Return the names of the metrics and `[metrics]` means over all passes, in float64, on the device.

        Each is weighted by the tokens or pairs that it is a mean over. `total` counts the passes of all processes, over
        which the second argument sums a tensor.
        """
        names = [*self.metrics[0]]
        shares = [
            # in an evaluation without scored tokens all weights are 0, and the mean is 0 as in TRL
            [_weight(name, counts) / (_weight(name, total) or 1) for name in names]
            for counts in self.counts
        ]
        values = torch.stack([torch.stack([own[name].double() for name in names]) for own in self.metrics])
        weights = torch.tensor(shares, dtype=torch.float64).to(values.device, non_blocking=True)
        return names, over_processes((values * weights).sum(dim=0))


def _ties(metrics: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the accuracy of a pass whose pairs all tie, as in the first step: one half, which is chance.

    TRL counts a pair as right when its chosen answer has the higher reward, so it logs 0 there.
    """
    if ACCURACY not in metrics or MARGIN not in metrics:
        return {}
    # no pair is right and the mean is 0, so no margin is below 0 either
    all_tie = (metrics[MARGIN] == 0) & (metrics[ACCURACY] == 0)
    return {ACCURACY: metrics[ACCURACY].masked_fill(all_tie, TIED)}


@dataclass
class Step:
    """An optimiser step: `total` counts the passes of all processes, `batches` those that this one has yet to run."""

    total: Counts
    batches: int = 1
    tally: Tally = field(default_factory=Tally)

    def loss_weights(
        self, own: Counts, losses: Iterable[str], weights: Iterable[float], *, divided_by: int = 1
    ) -> list[float]:
        """Return TRL's loss weights for one pass, so that the passes of the step sum to the mean over the step.

        `divided_by` is what transformers (batches of the step) and DDP (processes) will divide the loss by.
        """
        # the loss of a pass is the mean over its own n pairs, and n / N of it belongs to the step of N pairs; what is
        # divided later is multiplied here: weight * n * divided_by / N. For `sft` n and N are chosen tokens
        by_pairs = _share(own.pairs, self.total.pairs, divided_by)
        by_tokens = _share(own.chosen, self.total.chosen, divided_by)
        shares = [by_tokens if loss == "sft" else by_pairs for loss in losses]
        return [weight * share for weight, share in zip(weights, shares, strict=True)]


def _share(own: int, total: int, times: int) -> float:
    # multiply the integers first: passes of equal size then weigh exactly 1.0, and losses are TRL's to the bit
    return own * times / total if total else 0.0


def _weight(name: str, counts: Counts) -> int:
    """Return the number of terms that a metric is the mean of."""
    tokens = {
        "mean_token_accuracy": counts.chosen,
        "nll_loss": counts.chosen,
        "logits/chosen": counts.chosen,
        "logits/rejected": counts.rejected,
        "entropy": counts.chosen + counts.rejected,
    }
    return tokens.get(name, counts.pairs)
