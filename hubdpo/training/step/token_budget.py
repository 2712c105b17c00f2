"""Cut the pairs of an optimiser step into forward passes of about equal token counts.

The cost of a packed pass grows with its tokens, not with its pairs or its longest row. So a pass is filled by tokens:
a few long pairs or many short ones, and NF4 weights are de-quantised once for a full pass instead of once for a pair.
The step stays the one that was asked for: see hubdpo/training/step/shares.py.
"""

from __future__ import annotations

import heapq
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
    # stable, so that equal costs cut alike in every run and a resumed run repeats the same sums
    order = torch.argsort(costs, descending=True, stable=True)
    agreed = agree(costs[order]).tolist()
    passes = []
    for pairs in spread(agreed, budget) if shared_prefix else fill(agreed, budget):
        inputs = select_pairs(batch, order[pairs].to(batch["input_ids"].device))
        passes.append(Pass(inputs, Counts.of(inputs)))
    return passes


def pair_costs(batch: Batch, *, shared_prefix: bool) -> torch.Tensor:
    """Return the tokens `[B]` that the backbone runs for each pair when it is alone in its pass."""
    chosen, rejected = batch["attention_mask"].sum(dim=1).chunk(2)
    if not shared_prefix:
        # two padded rows, both as wide as the longer one
        return 2 * torch.maximum(chosen, rejected).cpu()
    # the packed row holds the common prefix once: |prefix| + (chosen - |prefix|) + (rejected - |prefix|)
    return (chosen + rejected - prefix_lengths(batch["input_ids"], batch["attention_mask"])).cpu()


def spread(costs: list[int], budget: int) -> list[list[int]]:
    """Return the pairs of each packed pass, as indices of `costs`, which are sorted, largest first.

    There are few passes, about equally long, the longest first: on a GPU a short pass takes the time that its kernels
    take to launch. Each pair goes to the shortest pass so far (Graham 1969).
    """
    count = max(-(-sum(min(cost, budget) for cost in costs) // budget), 1)
    while True:
        loads = [(0, index) for index in range(min(count, len(costs)))]  # a heap
        passes: list[list[int]] = [[] for _ in loads]
        for pair, cost in enumerate(costs):
            load, index = loads[0]
            passes[index].append(pair)
            heapq.heapreplace(loads, (load + cost, index))
        if all(load <= budget or len(passes[index]) == 1 for load, index in loads):
            return [passes[index] for _, index in sorted(loads, key=lambda entry: (-entry[0], entry[1]))]
        count += 1


def fill(costs: list[int], budget: int) -> list[list[int]]:
    """Return the pairs of each padded pass, as indices of `costs`, which are sorted, largest first.

    Every pair of a pass costs as much as the first, whose width all of its rows get, so pairs of like length meet.
    """
    passes: list[list[int]] = []
    for pair in range(len(costs)):
        if not passes or (len(passes[-1]) + 1) * costs[passes[-1][0]] > budget:
            passes.append([])
        passes[-1].append(pair)
    return passes
