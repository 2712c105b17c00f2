"""Decide on row keys alone which pairs are dropped, and which split each kept pair belongs to."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hubdpo.config import PrepareConfig
from hubdpo.config.description import SourceConfig
from hubdpo.data.clean.keys import Hashes, RowKeys, draws, uniform
from hubdpo.data.clean.near_duplicates import Rows, Signatures, near_groups

VERDICTS = (
    "train", "test", "duplicate_pair", "contradiction", "near_duplicate_pair", "over_length", "prompt_in_test",
    "over_max_rows", "left_out_by_weight",
)  # fmt: skip
"""What can become of a pair, by verdict code: its split, or the reason why it is dropped."""
TRAIN, TEST, DUPLICATE, CONTRADICTION, NEAR, OVER_LENGTH, IN_TEST, OVER_ROWS, LEFT_OUT = range(len(VERDICTS))
SPLITS, REASONS = VERDICTS[:2], VERDICTS[2:]
UNDECIDED = 255
DRAWN, ASKED_TRAIN, ASKED_TEST = range(3)
"""Which split a row is to have: that of a hash of its prompt, or the one it was published in."""

ROWS_AT_ONCE = 1 << 21
KEPT_SHARE = 0.99
LENGTH_STEP = 64
TEST_SIZE = 0.05
"""Share of prompts held out if neither `--test-size` nor a published split says otherwise."""

Shares = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Verdicts = npt.NDArray[np.uint8]
Asked = npt.NDArray[np.uint8]
"""One of DRAWN, ASKED_TRAIN and ASKED_TEST for each row, (rows,)."""


FOR_ROWS, FOR_WEIGHT = 1, 2
"""Purposes of `draws`: which pairs are within `max_rows`, and which a fraction of `weight` takes."""


@dataclass(frozen=True)
class SourceOfRows:
    """The source of each row, as its index in `sources`, (rows,)."""

    sources: Sequence[SourceConfig]
    numbers: npt.NDArray[np.integer]


@dataclass(frozen=True)
class Decision:
    """A code of VERDICTS and how often it is written for each pair, uint8 (rows,); and the limit in tokens, if any."""

    verdict: Verdicts
    max_length: int | None
    times: npt.NDArray[np.uint8]

    def kept(self, split: int) -> Rows:
        """Return the row numbers of a split, in order; a row that is written several times is there as often."""
        rows = np.flatnonzero(self.verdict == split)
        return np.repeat(rows, self.times[rows])

    def written(self, rows: slice) -> dict[str, int]:
        """Count the pairs of some rows that each split gets; a row that is written several times counts as often."""
        counts = np.bincount(self.verdict[rows], self.times[rows], minlength=len(SPLITS))
        return {split: int(count) for split, count in zip(SPLITS, counts, strict=False) if count}


def count_verdicts(verdict: Verdicts) -> Counter[str]:
    """Count the splits and reasons among verdict codes; those that do not occur are left out."""
    counts = np.bincount(verdict, minlength=len(VERDICTS))
    return Counter({name: int(count) for name, count in zip(VERDICTS, counts, strict=False) if count})


def decide(
    keys: RowKeys,
    config: PrepareConfig,
    *,
    near: npt.NDArray[np.uint32] | None = None,
    asked: Asked | None = None,
    shares: Shares | None = None,
    sources: SourceOfRows | None = None,
) -> Decision:
    """Decide about every row of `keys`.

    `near` holds the signatures of `--dedupe near`, uint32 (rows, 2, permutations): [:, 0] of the prompt, [:, 1] of the
    whole pair. `asked` is the split of each row, by default all are drawn. No row changes the split that is asked for:
    scores stay comparable with others' on the same test rows. A prompt of theirs is dropped from train, unless
    `--on-leak keep` is given. `shares` are the shares of prompts to hold out of the rows that are drawn, by default
    that of `--test-size`. `sources` say how many of their pairs are written, and how often.
    """
    verdict = np.full(len(keys), UNDECIDED, np.uint8)
    # rows with the same split key must be in the same split: equal prompts, and similar ones with `--dedupe near`
    split_keys = keys["prompt"] if near is None else _near_prompts(keys, near[:, 0])
    asked = np.zeros(len(keys), np.uint8) if asked is None else asked
    fixed = asked == ASKED_TEST
    # each rule sees what those before it have left, and a pair is counted under the first that drops it
    if fixed.any() and config.on_leak != "keep":
        verdict[~fixed & np.isin(split_keys, split_keys[fixed])] = IN_TEST
    for rows in _equal_candidates(keys["low"]):
        open_rows = rows[verdict[rows] == UNDECIDED]
        _drop_repeats(keys[open_rows], open_rows, ~fixed[open_rows], verdict, config)
    if near is not None:
        _drop_near_pairs(near[:, 1], verdict, fixed)
    # after the repeats: `auto` is the length of distinct pairs
    limit = _max_length(keys, verdict, config)
    if limit is not None and config.over_length != "keep":
        verdict[(verdict == UNDECIDED) & (total_tokens(keys) > limit)] = OVER_LENGTH
    # last, so that `max_rows` counts pairs that would be written
    for number, source in enumerate(sources.sources if sources else ()):
        if sources and source.max_rows is not None:
            rows = np.flatnonzero((verdict == UNDECIDED) & (sources.numbers == number))
            verdict[rows[beyond(keys[rows], source.max_rows, config.seed)]] = OVER_ROWS
    test = _test_rows(split_keys, asked, shares, config)
    undecided = verdict == UNDECIDED
    verdict[undecided] = np.where(test[undecided], TEST, TRAIN)
    return Decision(verdict, limit, _weigh(keys, verdict, sources, config.seed))


def _test_rows(split_keys: Hashes, asked: Asked, shares: Shares | None, config: PrepareConfig) -> Mask:
    """Return bool (rows,): whether a row belongs to the test split, if it is kept.

    A row whose split is drawn follows the train rows of its prompt whose split is asked for. Of different shares, the
    largest decides about a prompt.
    """
    drawn: Mask = asked == DRAWN
    test: Mask = asked == ASKED_TEST
    prompts = split_keys[drawn]
    share = shares[drawn] if shares is not None else TEST_SIZE if config.test_size is None else config.test_size
    held_out = is_test(prompts, share, config.seed) & ~np.isin(prompts, split_keys[asked == ASKED_TRAIN])
    # with one share, rows of a prompt agree by its hash; with several, one row that is held out takes the others along
    test[drawn] = held_out if shares is None else np.isin(prompts, prompts[held_out])
    return test


def is_test(keys: Hashes, test_size: float | Shares, seed: int) -> Mask:
    """Return bool (rows,): whether the prompt with this hash is held out. The share tends to `test_size`.

    The hash alone decides, so no prompt is in both splits, and adding data moves no row.
    """
    held_out: Mask = uniform(keys, seed) < test_size
    return held_out


def _weigh(keys: RowKeys, verdict: Verdicts, sources: SourceOfRows | None, seed: int) -> npt.NDArray[np.uint8]:
    """Return how often each pair is written; mark those that the weight of their source leaves out in `verdict`."""
    written = np.ones(len(keys), np.uint8)
    for number, source in enumerate(sources.sources if sources else ()):
        if sources and source.weight != 1:
            rows = np.flatnonzero((verdict == TRAIN) & (sources.numbers == number))
            written[rows] = times(keys["prompt"][rows], source.weight, seed)
    verdict[(verdict == TRAIN) & (written == 0)] = LEFT_OUT  # a weight below 1
    return written


def beyond(keys: RowKeys, most: int, seed: int) -> Rows:
    """Return the indices of the pairs to drop so that `most` are left: whole prompts but for one, in any order."""
    order = np.lexsort((keys["flipped"], keys["high"], keys["low"], draws(keys["prompt"], seed, FOR_ROWS)))
    return order[most:]


def times(prompts: Hashes, weight: float, seed: int) -> npt.NDArray[np.uint8]:
    """Return how often the pairs with these prompts are written, (rows,): `weight` times on average."""
    # by prompt, so that its pairs stay together: 2.3 writes all of them twice, and those of 30 % of the prompts again
    whole = int(weight)
    return whole + (uniform(prompts, seed, FOR_WEIGHT) < weight - whole).astype(np.uint8)


def total_tokens(keys: RowKeys) -> npt.NDArray[np.int64]:
    """Return tokens of the prompt and the longer answer, int64 (rows,); negative if no tokenizer counted."""
    longer = np.maximum(keys["chosen_tokens"], keys["rejected_tokens"])
    total: npt.NDArray[np.int64] = keys["prompt_tokens"].astype(np.int64) + longer
    return total


def _equal_candidates(low: Hashes) -> Iterator[Rows]:
    """Yield row numbers whose low hash occurs more than once, one hash partition at a time.

    Equal pairs are in the same partition, so each can be decided without the others.
    """
    partitions = max(1, math.ceil(len(low) / ROWS_AT_ONCE))
    for partition in range(partitions):
        rows = np.flatnonzero(low % np.uint64(partitions) == partition)
        order = np.argsort(low[rows])
        sorted_low = low[rows[order]]
        # equal hashes are neighbours once sorted; most rows have no equal neighbour and are decided already
        repeated = np.zeros(len(rows), bool)
        repeated[1:] = sorted_low[1:] == sorted_low[:-1]
        repeated[:-1] |= repeated[1:]
        yield np.sort(rows[order[repeated]])


def _drop_repeats(keys: RowKeys, rows: Rows, late: Mask, verdict: Verdicts, config: PrepareConfig) -> None:
    """Mark contradictions, and all but the first of equal pairs, in `verdict`.

    `keys` are the keys of `rows`, (rows,); those marked in `late`, bool (rows,), come after the others.
    """
    if not len(keys):
        return
    # by pair, then by which answer was chosen, then test rows first, then in the order of the input
    order = np.lexsort((rows, late, keys["flipped"], keys["high"], keys["low"]))
    keys, rows = keys[order], rows[order]
    # new_pair: first row of two answers to a prompt; new_side: first row of the same with the same answer chosen
    new_pair = np.ones(len(rows), bool)
    new_pair[1:] = (keys["low"][1:] != keys["low"][:-1]) | (keys["high"][1:] != keys["high"][:-1])
    new_side = new_pair.copy()
    new_side[1:] |= keys["flipped"][1:] != keys["flipped"][:-1]
    if config.on_conflict != "keep":
        # per group of rows about one pair: how many rows, and how many chose the answer with the larger hash
        starts = np.flatnonzero(new_pair)
        group = np.cumsum(new_pair) - 1
        size = np.diff([*starts, len(rows)])
        flipped = np.add.reduceat(keys["flipped"].astype(np.int64), starts)
        contradicts = (flipped > 0) & (flipped < size)
        losing = contradicts[group]
        if config.on_conflict == "majority":
            # 1 and 0 as in `flipped`; -1 on a draw, which every row of the group loses
            winner = np.where(2 * flipped > size, 1, np.where(2 * flipped < size, 0, -1))
            losing &= keys["flipped"] != winner[group]
        verdict[rows[losing]] = CONTRADICTION
    if config.dedupe != "none":
        repeats = rows[~new_side]
        verdict[repeats[verdict[repeats] == UNDECIDED]] = DUPLICATE


def _near_prompts(keys: RowKeys, prompts: Signatures) -> Hashes:
    """Return split keys, uint64 (rows,), that equal and similar prompts share: the least prompt hash of the group."""
    groups = near_groups(prompts, same=keys["prompt"])
    least = np.full(len(keys), np.iinfo(np.uint64).max, np.uint64)
    np.minimum.at(least, groups, keys["prompt"])
    return least[groups]


def _drop_near_pairs(pairs: Signatures, verdict: Verdicts, fixed: Mask) -> None:
    """Mark every undecided pair but the first of each group of similar ones in `verdict`."""
    rows = np.flatnonzero(verdict == UNDECIDED)
    # test rows first, so that a train row that resembles one is dropped and the test row stays
    rows = np.concatenate([rows[fixed[rows]], rows[~fixed[rows]]])
    groups = near_groups(pairs[rows])
    verdict[rows[groups != np.arange(len(rows))]] = NEAR


def _max_length(keys: RowKeys, verdict: Verdicts, config: PrepareConfig) -> int | None:
    """Return the limit in tokens; `auto` is the least multiple of LENGTH_STEP that KEPT_SHARE of the pairs fit in."""
    if config.max_length != "auto":
        return config.max_length
    totals = np.sort(total_tokens(keys)[verdict == UNDECIDED])
    if not len(totals):
        return None
    # nearest-rank percentile: the smallest length that ceil(0.99 n) pairs do not exceed
    rank = math.ceil(KEPT_SHARE * len(totals))
    return math.ceil(int(totals[rank - 1]) / LENGTH_STEP) * LENGTH_STEP
