"""Cut the pairs of a step into forward passes.

The cost of a packed pass grows with its tokens, not with its pairs or its longest row. So a token budget fills it: with
a few long pairs or many short ones, and NF4 weights are de-quantised once for a full pass instead of once for a pair.
Pairs of one prompt go into the same pass, which runs the prompt and each of their distinct answers once.

A step stays the mean over its pairs, however they are cut into passes: a pass weighs as much as the pairs in it (for
the loss `sft`, a mean over tokens: as much as the chosen tokens in it). So loss, gradient and metrics are those of all
pairs in one pass, up to the order of floating-point sums. Transformers and TRL take the mean over passes instead: the
same for passes of equal size, but it counts the pairs of a last, smaller pass several times.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from hubdpo.data.encoded.rows import SIDES, Row, sequence
from hubdpo.training.step.batch import row_length
from hubdpo.training.step.layout import trie_tokens

Passes = list[list[int]]
"""The pairs of each forward pass, as indices of the rows."""


@dataclass(frozen=True)
class Limit:
    """What one forward pass may hold: so many tokens, or as many distinct answers as so many pairs have at most."""

    tokens: int | None = None
    pairs: int | None = None


def cut_into_passes(rows: Sequence[Row], limit: Limit, *, packed: bool) -> Passes:
    """Cut rows into passes within the limit, the largest first; a pair above the limit is a pass by itself."""
    if limit.tokens is None and limit.pairs is None:
        return [[*range(len(rows))]]
    if not packed and limit.tokens is None:
        size = limit.pairs or 1
        return [[*range(start, min(start + size, len(rows)))] for start in range(0, len(rows), size)]
    if not packed:
        # sorted, because every row of a padded pass gets the width of its longest
        costs = [padded_tokens(row) for row in rows]
        order = sorted(range(len(rows)), key=lambda row: -costs[row])
        passes = fill([costs[row] for row in order], limit.tokens or 0)
        return [[order[place] for place in places] for places in passes]
    # without a budget the limit is in answers: a pair has two
    most = limit.tokens if limit.tokens is not None else 2 * (limit.pairs or 1)
    parts = [part for cluster in by_prompt(rows) for part in _within(rows, cluster, limit, most)]
    # stable, so that equal costs cut alike in every run and a resumed run repeats the same sums
    sized = sorted(((_cost(rows, part, limit), part) for part in parts), key=lambda sized: -sized[0])
    passes = spread([cost for cost, _ in sized], most)
    return [[pair for place in places for pair in sized[place][1]] for places in passes]


def in_as_many(passes: Passes, count: int) -> Passes:
    """Cut passes further until there are `count`: processes that synchronise once a pass need equally many.

    Where there are fewer pairs than that, the last passes are empty.
    """
    passes = [[*pairs] for pairs in passes]
    while len(passes) < count:
        longest = max(passes, key=len, default=[])
        passes.append([longest.pop()] if len(longest) > 1 else [])
    return passes


def packed_tokens(rows: Sequence[Row]) -> int:
    """Return the tokens that the backbone runs for these rows in one packed pass."""
    return trie_tokens([sequence(row, side) for row in rows for side in SIDES])


def padded_tokens(row: Row) -> int:
    """Return the tokens of a padded pair by itself: two rows, both as wide as the longer one."""
    return 2 * row_length(row)


def by_prompt(rows: Sequence[Row]) -> list[list[int]]:
    """Return the rows of each prompt, in the order of their first ones."""
    clusters: dict[bytes, list[int]] = {}
    for index, row in enumerate(rows):
        clusters.setdefault(_bytes(row, "prompt_ids"), []).append(index)
    return list(clusters.values())


def _bytes(row: Row, name: str) -> bytes:
    return np.asarray(row[name], dtype=np.int32).tobytes()


def _cost(rows: Sequence[Row], part: Sequence[int], limit: Limit) -> int:
    if limit.tokens is not None:
        return packed_tokens([rows[index] for index in part])
    return len({_bytes(rows[index], f"{side}_ids") for index in part for side in SIDES})


def _within(rows: Sequence[Row], cluster: list[int], limit: Limit, most: int) -> list[list[int]]:
    """Cut the rows of one prompt into parts within the limit, so that pairs that share answers stay together."""
    if len(cluster) == 1 or _cost(rows, cluster, limit) <= most:
        return [cluster]
    by_tokens = limit.tokens is not None
    prompt = len(rows[cluster[0]]["prompt_ids"]) if by_tokens else 0

    def cost(answers: set[bytes]) -> int:
        # at most so many tokens: what answers share at their beginning counts several times
        return prompt + sum(len(answer) // 4 for answer in answers) if by_tokens else len(answers)

    pairs = [{_bytes(rows[index], f"{side}_ids") for side in SIDES} for index in cluster]
    parts: list[list[int]] = []
    held: set[bytes] = set()
    for place in closest_first(pairs):
        if parts and cost(held | pairs[place]) <= most:
            parts[-1].append(cluster[place])
            held |= pairs[place]
        else:
            parts.append([cluster[place]])
            held = pairs[place]
    return parts


def closest_first(pairs: Sequence[Collection[object]]) -> list[int]:
    """Return an order of the pairs of one prompt in which the first n have few distinct answers: about sqrt(2 n)."""
    ranks: dict[object, int] = {}
    for pair in pairs:
        for answer in pair:
            ranks.setdefault(answer, len(ranks))
    ranked = [sorted((ranks[answer] for answer in pair), reverse=True) for pair in pairs]
    # all pairs among the first k answers come before any with a later answer
    return sorted(range(len(pairs)), key=lambda place: ranked[place])


def spread(costs: list[int], budget: int) -> Passes:
    """Return the parts of each packed pass, as indices of `costs`, which are sorted, largest first.

    There are few passes, about equally long, the longest first: on a GPU a short pass takes the time that its kernels
    take to launch. Each part goes to the shortest pass so far (Graham 1969).
    """
    # the fewest that could hold all tokens, rounded up; a part above the budget fills one pass by itself
    count = max(-(-sum(min(cost, budget) for cost in costs) // budget), 1)
    while True:
        loads = [(0, index) for index in range(min(count, len(costs)))]  # a heap
        passes: Passes = [[] for _ in loads]
        for pair, cost in enumerate(costs):
            load, index = loads[0]
            passes[index].append(pair)
            heapq.heapreplace(loads, (load + cost, index))
        if all(load <= budget or len(passes[index]) == 1 for load, index in loads):
            return [passes[index] for _, index in sorted(loads, key=lambda entry: (-entry[0], entry[1]))]
        count += 1


def fill(costs: list[int], budget: int) -> Passes:
    """Return the pairs of each padded pass, as indices of `costs`, which are sorted, largest first.

    Every pair of a pass costs as much as the first, whose width all of its rows get, so pairs of like length meet.
    """
    passes: Passes = []
    for pair in range(len(costs)):
        if not passes or (len(passes[-1]) + 1) * costs[passes[-1][0]] > budget:
            passes.append([])
        passes[-1].append(pair)
    return passes
