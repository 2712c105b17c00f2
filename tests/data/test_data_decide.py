"""Decisions on row keys: near-duplicates, splits that share no prompt, and the length that `auto` takes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hubdpo.config import PrepareConfig
from hubdpo.data.clean.decide import TEST, TRAIN, decide
from hubdpo.data.clean.keys import ROW_KEY, RowKeys
from hubdpo.data.clean.near_duplicates import PERMUTATIONS, near_groups, signature


def config(**options: Any) -> PrepareConfig:
    return PrepareConfig(source=["x"], output_dir="y", **options)


def distinct_keys(rows: int) -> RowKeys:
    """Return keys of pairs of which no two have anything in common."""
    keys = np.zeros(rows, ROW_KEY)
    keys["low"] = np.arange(1, rows + 1)
    keys["prompt"] = np.arange(1, rows + 1, dtype=np.uint64) * np.uint64(2**56 + 12345)
    return keys


def distinct_signatures(rows: int) -> np.ndarray[Any, np.dtype[np.uint32]]:
    return np.random.default_rng(0).integers(0, 2**32, (rows, 2, PERMUTATIONS), dtype=np.uint32)


@pytest.mark.parametrize("seed", range(8))
def test_equal_prompts_of_different_near_groups_are_in_one_split(seed: int) -> None:
    keys, near = distinct_keys(60), distinct_signatures(60)
    # rows 30 to 59 repeat the prompts of rows 0 to 29, of which each second one is similar to the one before
    keys["prompt"][30:] = keys["prompt"][:30]
    near[1:30:2, 0] = near[0:30:2, 0]
    decision = decide(keys, config(dedupe="near", test_size=0.5, seed=seed), near=near)
    train, test = decision.kept(TRAIN), decision.kept(TEST)
    assert len(train) + len(test) == 60
    assert len(train)
    assert len(test)
    assert not set(keys["prompt"][train].tolist()) & set(keys["prompt"][test].tolist())


@pytest.mark.parametrize(
    ("longer", "limit"), [(0, 64), (2, 64), (3, 128), (200, 128)], ids=["none", "1 %", "more than 1 %", "all"]
)
def test_auto_takes_the_length_that_99_percent_of_the_pairs_fit_in(longer: int, limit: int) -> None:
    keys = distinct_keys(200)
    keys["prompt_tokens"], keys["chosen_tokens"], keys["rejected_tokens"] = 60, 4, 1
    keys["rejected_tokens"][:longer] = 5
    assert decide(keys, config(model="m", max_length="auto", over_length="keep")).max_length == limit


def test_auto_does_not_count_dropped_pairs() -> None:
    keys = distinct_keys(300)
    keys["prompt_tokens"], keys["chosen_tokens"] = 60, 4
    keys["low"][200:], keys["chosen_tokens"][200:] = 1000, 400  # equal pairs, of which one stays
    assert decide(keys, config(model="m", max_length="auto", over_length="keep")).max_length == 64


@pytest.mark.parametrize(("equal", "grouped"), [(50, False), (51, False), (52, True), (64, True)])
def test_rows_are_similar_from_four_fifths_of_equal_signature_values(equal: int, grouped: bool) -> None:
    signatures = distinct_signatures(2)[:, 0]
    signatures[1, :equal] = signatures[0, :equal]
    assert near_groups(signatures).tolist() == [0, 0 if grouped else 1]


def test_signatures_tell_the_sides_apart() -> None:
    said = [{"role": "assistant", "content": "The river runs down from the hills through a narrow valley to the sea."}]
    one, other = signature([("+", said)]), signature([("-", said)])
    assert np.mean(one == other) < 0.2


def test_groups_begin_at_their_first_row_and_join_equal_values() -> None:
    rows = np.arange(6 * 64, dtype=np.uint32).reshape(6, 64)
    rows[4] = rows[1]
    assert near_groups(rows).tolist() == [0, 1, 2, 3, 1, 5]
    assert near_groups(rows, same=np.array([7, 1, 7, 3, 4, 4])).tolist() == [0, 1, 0, 3, 1, 1]
