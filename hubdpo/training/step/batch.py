"""Rows of token ids, the padded batches that TRL's collator makes of them, and the passes that a step is cut into.

The cost of a packed pass grows with its tokens, not with its pairs or its longest row. So a token budget fills it: with
a few long pairs or many short ones, and NF4 weights are de-quantised once for a full pass instead of once for a pair.

A step stays the mean over its pairs, however they are cut into passes: a pass weighs as much as the pairs in it (for
the loss `sft`, a mean over tokens: as much as the chosen tokens in it). So loss, gradient and metrics are those of all
pairs in one pass, up to the order of floating-point sums. Transformers and TRL take the mean over passes instead: the
same for passes of equal size, but it counts the pairs of a last, smaller pass several times.

Shapes, here and in the rest of step/: B pairs, T tokens of the longest row.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, NotRequired, TypedDict

import torch
from trl.trainer.dpo_trainer import DataCollatorForPreference

from hubdpo.training.step.layout import prefix_lengths

Row = dict[str, Any]
"""One pair as `PairTokenizer.rows` returns it: `prompt_ids`, `chosen_ids`, `rejected_ids`, and in `chosen_context` and
`rejected_context` the spans of an answer that are not scored. With a cached reference also `ref_chosen_logps` and
`ref_rejected_logps`, floats in nats; and those of PAIR_VALUES that the losses read."""
PAIR_VALUES = ("margin", "weight")
"""What a dataset may say of a pair beside its messages, each a float; see `hubdpo.training.pair_values.set_values`."""
TOTALS = ("num_tokens",)
"""Metrics that TRL accumulates over the run: the last value stands for all passes."""
ACCURACY = "rewards/accuracies"
TIED = 0.5


class Batch(TypedDict):
    """B pairs in 2B right-padded rows: row i is the chosen side of pair i, row B + i its rejected side."""

    input_ids: torch.Tensor  # [2B, T]
    attention_mask: torch.Tensor  # [2B, T] 1 at real tokens, 0 at padding
    completion_mask: torch.Tensor  # [2B, T] 1 at the tokens that are scored
    ref_chosen_logps: NotRequired[torch.Tensor]  # [B] reference log-probability of the answer, in nats
    ref_rejected_logps: NotRequired[torch.Tensor]  # [B]
    margin: NotRequired[torch.Tensor]  # [B]
    weight: NotRequired[torch.Tensor]  # [B]


class AssistantCollator(DataCollatorForPreference):
    """Collate as TRL does, and score only the tokens that the assistant says.

    Other turns inside an answer (`chosen_context`, `rejected_context`) stay in `input_ids` as context and are cleared
    in `completion_mask`, so they count in no loss, length or accuracy.
    """

    def torch_call(self, examples: list[Row]) -> Batch:
        batch: Batch = super().torch_call(examples)
        spans = chain.from_iterable(
            [(len(row["prompt_ids"]), row.get(side) or ()) for row in examples]
            for side in ("chosen_context", "rejected_context")
        )
        for mask, (prompt, context) in zip(batch["completion_mask"], spans, strict=True):
            for start, stop in zip(context[::2], context[1::2], strict=True):
                mask[prompt + start : prompt + stop] = 0
        for name in PAIR_VALUES:
            if name in examples[0]:
                batch[name] = torch.tensor([row[name] for row in examples])  # type: ignore[literal-required]
        return batch


def without_pair_values(batch: Batch) -> Batch:
    """Return the batch as TRL knows it, which would hand any other tensor to the model."""
    rest: Any = {name: value for name, value in batch.items() if name not in PAIR_VALUES}
    return rest  # type: ignore[no-any-return]


def row_length(row: Row) -> int:
    """Return the tokens of the longer side of a pair, prompt included."""
    return len(row["prompt_ids"]) + max(len(row["chosen_ids"]), len(row["rejected_ids"]))


def select_pairs(batch: Batch, pairs: torch.Tensor) -> Batch:
    """Return the batch of these pairs, given by index, padded to the longest row among them."""
    rows = torch.cat([pairs, pairs + len(batch["input_ids"]) // 2])
    width = int(batch["attention_mask"][rows].sum(dim=1).max())
    selected: Batch = {
        "input_ids": batch["input_ids"][rows, :width],
        "attention_mask": batch["attention_mask"][rows, :width],
        "completion_mask": batch["completion_mask"][rows, :width],
    }
    for name, values in batch.items():
        if name not in selected:  # one value for each pair
            selected[name] = values[pairs]  # type: ignore[literal-required, index]
    return selected


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


@dataclass(frozen=True)
class Counts:
    """The pairs of a batch, and the scored tokens of its chosen and of its rejected answers."""

    pairs: int
    chosen: int
    rejected: int

    @classmethod
    def of(cls, batch: Batch, gather: Callable[[torch.Tensor], torch.Tensor] = lambda tokens: tokens) -> Counts:
        """Count a padded batch. `gather` maps the tokens `[B, 2]` of this process to those of all pairs that count."""
        # the first token of a row has no prediction, so TRL's labels begin with the second
        answers = batch["completion_mask"][:, 1:].sum(dim=1).chunk(2)
        tokens = gather(torch.stack(answers, dim=1))
        return cls(len(tokens), *tokens.sum(dim=0).tolist())

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.pairs + other.pairs, self.chosen + other.chosen, self.rejected + other.rejected)


@dataclass
class Tally:
    """The passes so far: the counts of each, and what TRL measured in it."""

    counts: list[Counts] = field(default_factory=list)
    metrics: list[Mapping[str, Sequence[float]]] = field(default_factory=list)

    def add(self, counts: Counts, metrics: Mapping[str, Sequence[float]]) -> None:
        self.counts.append(counts)
        self.metrics.append({**metrics, **_ties(metrics)})

    def merged(self) -> dict[str, float]:
        """Return each metric over all passes: their mean, weighted by the tokens or pairs that it is a mean over."""
        merged = {}
        for name in self.metrics[-1] if self.metrics else ():
            values = [metrics[name][-1] for metrics in self.metrics]
            weights = [_weight(name, counts) for counts in self.counts]
            if name in TOTALS or len(values) == 1:
                merged[name] = values[-1]
            else:
                # in an evaluation without scored tokens all weights are 0, and the mean is 0 as in TRL
                merged[name] = sum(v * w for v, w in zip(values, weights, strict=True)) / (sum(weights) or 1)
        return merged


def _ties(metrics: Mapping[str, Sequence[float]]) -> dict[str, list[float]]:
    """Return the accuracy of a pass whose pairs all tie, as in the first step: one half, which is chance.

    TRL counts a pair as right when its chosen answer has the higher reward, so it logs 0 there.
    """
    margins, accuracies = metrics.get("rewards/margins"), metrics.get(ACCURACY)
    # no pair is right and the mean is 0, so no margin is below 0 either
    all_tie = margins and accuracies and margins[-1] == accuracies[-1] == 0
    return {ACCURACY: [TIED]} if all_tie else {}


@dataclass
class Step:
    """An optimiser step: `total` counts the passes of all processes, `batches` those that this one has yet to run."""

    total: Counts
    batches: int
    tally: Tally = field(default_factory=Tally)

    def loss_weights(
        self, own: Counts, losses: Iterable[str], weights: Iterable[float], *, divided_by: int
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
