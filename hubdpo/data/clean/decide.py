"""Second step of prepare, on keys alone: repeats, contradictions, lengths, and the split of every row."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from hubdpo.config import PrepareConfig
from hubdpo.data.clean.near_duplicates import near_groups
from hubdpo.data.clean.split import is_test

TRAIN, TEST = 0, 1
SPLITS = {"train": TRAIN, "test": TEST}
REASONS = ("duplicate_pair", "contradiction", "near_duplicate_pair", "over_length", "prompt_in_test")
DUPLICATE, CONTRADICTION, NEAR, OVER, IN_TEST = range(2, 2 + len(REASONS))
UNDECIDED = 255

ROWS_AT_ONCE = 1 << 21
KEPT_SHARE = 0.99
LENGTH_STEP = 64
TEST_SIZE = 0.05
"""Share of the prompts that is held out unless `--test-size` or the split of the source says otherwise."""


@dataclass(frozen=True)
class Decision:
    """`verdict` is uint8 (rows,): a split, or a reason to drop; `max_length` is the limit in tokens that was used."""

    verdict: Any
    max_length: int | None

    def dropped(self) -> Counter[str]:
        counts = np.bincount(self.verdict, minlength=2 + len(REASONS))[2:]
        return Counter({reason: int(count) for reason, count in zip(REASONS, counts, strict=True) if count})

    def kept(self, split: int) -> Any:
        """Return the rows of a split, in order."""
        return np.flatnonzero(self.verdict == split)


def decide(keys: Any, config: PrepareConfig, *, near: Any = None, published: Any = None) -> Decision:
    """Decide about every row of `keys`, KEY (rows,).

    `near` is uint32 (rows, 2, permutations), of prompt and pair. `published`, bool (rows,), tells which rows were
    published as test rows: then all rows stay where they are, and a prompt that both splits have is dropped from train,
    so that the test rows are those that others measure on.
    """
    verdict = np.full(len(keys), UNDECIDED, np.uint8)
    split_keys = keys["prompt"] if near is None else _near_prompts(keys, near)
    if published is not None:
        verdict[~published & np.isin(split_keys, split_keys[published])] = IN_TEST
    for rows in _buckets(keys["low"]):
        open_ = rows[verdict[rows] == UNDECIDED]
        _repeats(keys[open_], open_, verdict, config)
    if near is not None:
        _near_pairs(near, verdict, published)
    most = _limit(keys, verdict, config)
    if most is not None and config.over_length != "keep":
        verdict[(verdict == UNDECIDED) & (total_tokens(keys) > most)] = OVER
    if published is None:
        published = is_test(split_keys, TEST_SIZE if config.test_size is None else config.test_size, config.seed)
    open_ = verdict == UNDECIDED
    verdict[open_] = np.where(published[open_], TEST, TRAIN)
    return Decision(verdict, most)


def total_tokens(keys: Any) -> Any:
    """Return int64 (rows,): tokens of the prompt and the longer answer; negative without a tokenizer."""
    return keys["prompt_tokens"].astype(np.int64) + np.maximum(keys["chosen_tokens"], keys["rejected_tokens"])


def _buckets(low: Any) -> Iterator[Any]:
    """Give the rows that may be equal to others, in groups that hold all that is equal: some of them at a time."""
    parts = max(1, math.ceil(len(low) / ROWS_AT_ONCE))
    for part in range(parts):
        rows = np.flatnonzero(low % np.uint64(parts) == part) if parts > 1 else np.arange(len(low))
        order = np.argsort(low[rows])
        values = low[rows[order]]
        # nearly all rows are like no other, and need no further look
        alike = np.zeros(len(rows), bool)
        alike[1:] = values[1:] == values[:-1]
        alike[:-1] |= alike[1:]
        yield np.sort(rows[order[alike]])


def _repeats(sub: Any, rows: Any, verdict: Any, config: PrepareConfig) -> None:
    """Mark the second and later of equal pairs, and what contradicts itself."""
    if not len(sub):
        return
    order = np.lexsort((rows, sub["flipped"], sub["high"], sub["low"]))
    sub, rows = sub[order], rows[order]
    new_pair = np.ones(len(rows), bool)
    new_pair[1:] = (sub["low"][1:] != sub["low"][:-1]) | (sub["high"][1:] != sub["high"][:-1])
    new_side = new_pair.copy()
    new_side[1:] |= sub["flipped"][1:] != sub["flipped"][:-1]
    if config.on_conflict in ("drop", "majority", "error"):
        starts = np.flatnonzero(new_pair)
        group = np.cumsum(new_pair) - 1
        total = np.diff([*starts, len(rows)])
        flipped = np.add.reduceat(sub["flipped"].astype(np.int64), starts)
        both = (flipped > 0) & (flipped < total)
        if config.on_conflict == "majority":
            winner = np.where(2 * flipped > total, 1, np.where(2 * flipped < total, 0, -1))
            lost = both[group] & (sub["flipped"] != winner[group])
        else:
            lost = both[group]
        verdict[rows[lost]] = CONTRADICTION
    if config.dedupe != "none":
        again = rows[~new_side]
        verdict[again[verdict[again] == UNDECIDED]] = DUPLICATE


def _near_prompts(keys: Any, near: Any) -> Any:
    """Return a split key, uint64 (rows,), that equal and similar prompts share."""
    prompts = near_groups(near[:, 0], same=keys["prompt"])
    least = np.full(len(keys), np.iinfo(np.uint64).max, np.uint64)
    np.minimum.at(least, prompts, keys["prompt"])
    return least[prompts]


def _near_pairs(near: Any, verdict: Any, published: Any) -> None:
    """Mark pairs that say almost what an earlier one says, or what a published test row says."""
    rows = np.flatnonzero(verdict == UNDECIDED)
    if published is not None:
        rows = np.concatenate([rows[published[rows]], rows[~published[rows]]])
    groups = near_groups(near[rows, 1])
    verdict[rows[groups != np.arange(len(rows))]] = NEAR


def _limit(keys: Any, verdict: Any, config: PrepareConfig) -> int | None:
    if config.max_length != "auto":
        return config.max_length
    totals = np.sort(total_tokens(keys)[verdict == UNDECIDED])
    if not len(totals):
        return None
    least = int(totals[min(math.ceil(KEPT_SHARE * len(totals)), len(totals)) - 1])
    return math.ceil(least / LENGTH_STEP) * LENGTH_STEP
