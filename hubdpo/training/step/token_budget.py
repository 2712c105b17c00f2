"""Cut the pairs of an optimiser step into forward passes of about equal token counts.

The cost of a packed pass grows with its tokens, not with its pairs or its longest row. So a pass is filled by tokens:
a few long pairs or many short ones, and NF4 weights are de-quantised once for a full pass instead of once for a pair.
The step stays the one that was asked for: see hubdpo/training/step/shares.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from hubdpo.training.step.batch import Batch, select_pairs
from hubdpo.training.step.shared_prefix import prefix_lengths
from hubdpo.training.step.shares import Counts


@dataclass(frozen=True)
class Pass:
    """One forward pass: its part of the batch, and the pairs and scored tokens in it."""

    inputs: Batch
    counts: Counts


def cut_into_passes(
    batch: Batch,
    budget: int,
    *,
    shared_prefix: bool,
    agree: Callable[[torch.Tensor], torch.Tensor] = lambda costs: costs,
) -> list[Pass]:
    """Cut a padded batch into passes of at most `budget` tokens; a pair above the budget is a pass by itself.

    `agree` maps the costs `[B]` of this process, largest first, to the costs that all processes cut by: they
    synchronise once a pass, so each must make the same number of passes.
    """
    costs = pair_costs(batch, shared_prefix=shared_prefix)
    # largest first: an over-long pair then meets an empty pass, and padded pairs meet pairs of like length;
    # stable, so that equal costs cut alike in every run and a resumed run repeats the same sums
    order = torch.argsort(costs, descending=True, stable=True)
    passes, start = [], 0
    for size in fill(agree(costs[order]).tolist(), budget, padded=not shared_prefix):
        inputs = select_pairs(batch, order[start : start + size].to(batch["input_ids"].device))
        passes.append(Pass(inputs, Counts.of(inputs)))
        start += size
    return passes


def pair_costs(batch: Batch, *, shared_prefix: bool) -> torch.Tensor:
    """Return the tokens `[B]` that the backbone runs for each pair when it is alone in its pass."""
    chosen, rejected = batch["attention_mask"].sum(dim=1).chunk(2)
    if not shared_prefix:
        # two padded rows, both as wide as the longer one
        return 2 * torch.maximum(chosen, rejected).cpu()
    # the packed row holds the common prefix once: |prefix| + (chosen - |prefix|) + (rejected - |prefix|)
    return (chosen + rejected - prefix_lengths(batch["input_ids"], batch["attention_mask"])).cpu()


def fill(costs: list[int], budget: int, *, padded: bool) -> list[int]:
    """Return the number of pairs in each pass, taking the costs in their order, largest first.

    In a padded pass every pair costs as much as the first, whose width all rows of the pass get.
    """
    sizes: list[int] = []
    first = used = 0
    for cost in costs:
        added = first if padded else cost
        if not sizes or used + added > budget:
            sizes.append(0)
            first, used, added = cost, 0, cost
        sizes[-1] += 1
        used += added
    return sizes
