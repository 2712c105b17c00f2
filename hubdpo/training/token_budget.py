"""Cut the pairs of an optimiser step into forward passes of about as many tokens each.

What a packed pass costs goes by its tokens, not by its pairs or its longest row, so passes are filled with tokens: long
pairs go few at a time and short ones many, and NF4 weights are de-quantised for a full pass instead of for one pair.
The step stays what was asked for: each pass weighs as much as the pairs (for `sft`: the tokens) in it, so loss and
gradient are those of the whole step in one pass, up to the order of floating-point sums.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch

from hubdpo.training.shared_prefix import prefix_lengths

PER_ROW = ("input_ids", "attention_mask", "completion_mask")
PER_PAIR = ("ref_chosen_logps", "ref_rejected_logps")
BY_CHOSEN_TOKENS = ("mean_token_accuracy", "logits/chosen")
BY_REJECTED_TOKENS = ("logits/rejected",)
BY_TOKENS = ("entropy",)
TOTALS = ("num_tokens",)


@dataclass(frozen=True)
class Pass:
    """One forward pass: a padded batch as TRL's collator makes it, and the share of the step that it is."""

    inputs: dict[str, torch.Tensor]
    pair_share: float
    chosen_share: float
    """Of the tokens of all chosen answers."""
    tokens: tuple[int, int]
    """Of its chosen and of its rejected answers."""

    def loss_weights(self, losses: Iterable[str], weights: Iterable[float]) -> list[float]:
        """Return TRL's loss weights for this pass: `sft` is a mean over tokens, every other loss one over pairs."""
        shares = [self.chosen_share if loss == "sft" else self.pair_share for loss in losses]
        return [weight * share for weight, share in zip(weights, shares, strict=True)]


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
    rows, pairs = inputs["input_ids"], inputs["input_ids"].shape[0] // 2
    costs = pair_costs(inputs, shared_prefix=shared_prefix)
    order = torch.argsort(costs, descending=True, stable=True)
    sizes = fill(agree(costs[order]).tolist(), budget, padded=not shared_prefix)
    chosen = (inputs["completion_mask"][:pairs, 1:]).sum(dim=1)
    rejected = (inputs["completion_mask"][pairs:, 1:]).sum(dim=1)
    total = int(chosen.sum())
    cut, start = [], 0
    for size in sizes:
        places = order[start : start + size].to(rows.device)
        both = torch.cat([places, places + pairs])
        width = int(inputs["attention_mask"][both].sum(dim=1).max())
        own = int(chosen[places].sum())
        cut.append(
            Pass(
                {name: inputs[name][both, :width] for name in PER_ROW}
                | {name: inputs[name][places] for name in PER_PAIR if name in inputs},
                pair_share=size / pairs,
                chosen_share=own / total if total else 0.0,
                tokens=(own, int(rejected[places].sum())),
            )
        )
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


def merged(
    metrics: list[dict[str, list[float]]], tokens: list[tuple[int, int]], pairs: list[float]
) -> dict[str, float]:
    """Return each of TRL's metrics for the step from those of its passes: by tokens, or by pairs."""
    chosen, rejected = (list(column) for column in zip(*tokens, strict=True))
    weights: dict[str, list[float]] = {
        **dict.fromkeys(BY_CHOSEN_TOKENS, chosen),
        **dict.fromkeys(BY_REJECTED_TOKENS, rejected),
        **dict.fromkeys(BY_TOKENS, [sum(both) for both in tokens]),
        **dict.fromkeys(TOTALS, [0.0] * (len(pairs) - 1) + [1.0]),
    }
    found = {}
    for name in metrics[-1]:
        by = weights.get(name, pairs)
        found[name] = sum(values[name][-1] * weight for values, weight in zip(metrics, by, strict=True)) / (
            sum(by) or 1
        )
    return found
