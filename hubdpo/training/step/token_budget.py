"""Cut the pairs of an optimiser step into forward passes of about as many tokens each.

What a packed pass costs goes by its tokens, not by its pairs or its longest row, so passes are filled with tokens: long
pairs go few at a time and short ones many, and NF4 weights are de-quantised for a full pass instead of for one pair.
The step stays what was asked for: see hubdpo/training/step/shares.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from hubdpo.training.step.shared_prefix import prefix_lengths
from hubdpo.training.step.shares import Counts

PER_ROW = ("input_ids", "attention_mask", "completion_mask")
PER_PAIR = ("ref_chosen_logps", "ref_rejected_logps")


@dataclass(frozen=True)
class Pass:
    """One forward pass: a padded batch as TRL's collator makes it, and what is in it."""

    inputs: dict[str, torch.Tensor]
    counts: Counts


def passes(
    inputs: dict[str, torch.Tensor],
    budget: int,
    *,
    shared_prefix: bool,
    agree: Callable[[torch.Tensor], torch.Tensor] = lambda costs: costs,
) -> list[Pass]:
    """Cut a padded batch `[2B, T]`, whose rows i and B + i are pair i, into passes of at most `budget` tokens.

    A pair that is larger than the budget goes alone. `agree` takes the costs of this process, largest first, and
    returns those to go by: processes that step together must cut at the same places.
    """
    rows, pairs = inputs["input_ids"], len(inputs["input_ids"]) // 2
    costs = pair_costs(inputs, shared_prefix=shared_prefix)
    order = torch.argsort(costs, descending=True, stable=True)
    sizes = fill(agree(costs[order]).tolist(), budget, padded=not shared_prefix)
    cut, start = [], 0
    for size in sizes:
        places = order[start : start + size].to(rows.device)
        both = torch.cat([places, places + pairs])
        width = int(inputs["attention_mask"][both].sum(dim=1).max())
        part = {name: inputs[name][both, :width] for name in PER_ROW}
        part |= {name: inputs[name][places] for name in PER_PAIR if name in inputs}
        cut.append(Pass(part, Counts.of(part)))
        start += size
    return cut


def pair_costs(inputs: dict[str, torch.Tensor], *, shared_prefix: bool) -> torch.Tensor:
    """Return the tokens `[B]` that the backbone runs for each pair, alone in its batch."""
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    chosen, rejected = mask.sum(dim=1).chunk(2)
    if not shared_prefix:
        return 2 * torch.maximum(chosen, rejected).cpu()
    return (chosen + rejected - prefix_lengths(ids, mask)).cpu()


def fill(costs: list[int], budget: int, *, padded: bool) -> list[int]:
    """Return how many of the costs, largest first, each pass takes; in a padded pass all cost what its first does."""
    sizes: list[int] = []
    first = used = 0
    for cost in costs:
        taken = first if padded else cost
        if not sizes or used + taken > budget:
            sizes.append(0)
            first, used, taken = cost, 0, cost
        sizes[-1] += 1
        used += taken
    return sizes
