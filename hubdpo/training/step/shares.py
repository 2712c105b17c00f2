"""How much each forward pass of an optimiser step, or of an evaluation, weighs in it.

A step is what its pairs say, however they are cut into passes: each pass weighs as much as the pairs in it (for `sft`,
which is a mean over tokens: as much as the chosen tokens in it). So loss, gradient and metrics are those of all pairs
in one pass, up to the order of floating-point sums. Transformers and TRL take the mean over passes instead, which is
the same for passes of one size, and counts the pairs of a last, smaller pass several times.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch

BY_CHOSEN_TOKENS = ("mean_token_accuracy", "logits/chosen")
BY_REJECTED_TOKENS = ("logits/rejected",)
BY_TOKENS = ("entropy",)
TOTALS = ("num_tokens",)


@dataclass(frozen=True)
class Counts:
    """The pairs of a batch, and the tokens of its chosen and of its rejected answers that have a label."""

    pairs: int
    chosen: int
    rejected: int

    @classmethod
    def of(
        cls, inputs: Mapping[str, torch.Tensor], gather: Callable[[torch.Tensor], torch.Tensor] = lambda own: own
    ) -> Counts:
        """Count a padded batch `[2B, T]` as TRL's collator makes it: B chosen rows, then B rejected ones.

        `gather` takes the tokens `[B, 2]` of the pairs of this process and returns those of all that count.
        """
        answers = inputs["completion_mask"][:, 1:].sum(dim=1).chunk(2)
        tokens = gather(torch.stack(answers, dim=1))
        return cls(len(tokens), *tokens.sum(dim=0).tolist())

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.pairs + other.pairs, self.chosen + other.chosen, self.rejected + other.rejected)


@dataclass
class Tally:
    """Passes that were made, and what TRL measured in each."""

    counts: list[Counts] = field(default_factory=list)
    metrics: list[Mapping[str, Sequence[float]]] = field(default_factory=list)

    def add(self, counts: Counts, metrics: Mapping[str, Sequence[float]]) -> None:
        self.counts.append(counts)
        self.metrics.append(dict(metrics))

    def merged(self) -> dict[str, float]:
        """Return each metric for all passes together: by tokens or by pairs, whichever it is a mean over."""
        found = {}
        for name in self.metrics[-1] if self.metrics else ():
            values = [metrics[name][-1] for metrics in self.metrics]
            weights = [_weight(name, counts) for counts in self.counts]
            if name in TOTALS or len(values) == 1:
                found[name] = values[-1]
            else:
                found[name] = sum(v * w for v, w in zip(values, weights, strict=True)) / (sum(weights) or 1)
        return found


@dataclass
class Step:
    """An optimiser step: `total` over all its passes and processes, in `batches` batches of this process."""

    total: Counts
    batches: int
    tally: Tally = field(default_factory=Tally)

    def loss_weights(
        self, own: Counts, losses: Iterable[str], weights: Iterable[float], *, divided_by: int
    ) -> list[float]:
        """Return TRL's loss weights for a pass of this step whose loss will be divided by `divided_by`."""
        by_pairs = _share(own.pairs, self.total.pairs, divided_by)
        by_tokens = _share(own.chosen, self.total.chosen, divided_by)
        shares = [by_tokens if loss == "sft" else by_pairs for loss in losses]
        return [weight * share for weight, share in zip(weights, shares, strict=True)]


def _share(own: int, total: int, times: int) -> float:
    # whole numbers first, so that passes of one size weigh exactly 1 and losses are TRL's to the bit
    return own * times / total if total else 0.0


def _weight(name: str, counts: Counts) -> int:
    if name in BY_CHOSEN_TOKENS:
        return counts.chosen
    if name in BY_REJECTED_TOKENS:
        return counts.rejected
    if name in BY_TOKENS:
        return counts.chosen + counts.rejected
    return counts.pairs
