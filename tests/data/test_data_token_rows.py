"""Tokenised pairs as columns of int32: what a row holds, and that views copy nothing."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from hubdpo.data.encoded.rows import CONTEXT, IDS, LISTS, TokenRows

PAIRS = [
    {"prompt_ids": [1, 2], "chosen_ids": [3], "rejected_ids": [4, 5], "chosen_context": [0, 1], "row": 4},
    {"prompt_ids": [6], "chosen_ids": [7, 8, 9], "rejected_ids": [], "row": 7},
    {"prompt_ids": [1, 2, 3], "chosen_ids": [9], "rejected_ids": [8], "rejected_context": [0, 1], "row": 8},
]


def plain(row: dict[str, object]) -> dict[str, object]:
    return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in row.items()}


def test_a_row_is_what_it_was_made_of() -> None:
    rows = TokenRows.of(PAIRS)
    empty = {name: [] for name in CONTEXT}
    assert [plain(row) for row in rows] == [{**empty, **pair} for pair in PAIRS]
    assert {rows[0][name].dtype for name in LISTS} == {np.dtype(np.int32)}
    assert plain(rows[-1]) == plain(rows[2])
    with pytest.raises(IndexError):
        rows[3]


def test_rows_count_themselves() -> None:
    rows = TokenRows.of([{name: [1] for name in IDS}] * 3)
    assert rows.row_numbers.tolist() == [0, 1, 2]
    assert (len(TokenRows.of([])), TokenRows.of([]).longest()) == (0, [])


def test_lengths_and_the_longest_pairs_first() -> None:
    rows = TokenRows.of(PAIRS)
    assert rows.lengths.tolist() == [[2, 1, 2], [1, 3, 0], [3, 1, 1]]
    assert (rows.longest(), rows.longest(2)) == ([0, 1, 2], [0, 1])  # all of four tokens: stable
    assert rows.select([2, 0]).lengths.tolist() == [[3, 1, 1], [2, 1, 2]]


def test_selected_rows_share_the_ids_and_take_their_numbers_along() -> None:
    rows = TokenRows.of(PAIRS).with_column("weight", [0.5, 1.0, 2.0])
    some = rows.select([2, 0]).with_column("margin", np.array([7.0, 8.0])).select(np.array([1]))
    assert plain(some[0]) == {**plain(rows[0]), "margin": 8.0}
    assert np.shares_memory(some[0]["prompt_ids"], rows[0]["prompt_ids"])
    assert [column.tolist() for column in rows.select([2, 0]).column("prompt_ids")] == [[1, 2, 3, 1, 2], [0, 3, 5]]
    assert [plain(row) for row in rows[1:]] == [plain(rows[1]), plain(rows[2])]
    assert some.numbers("margin") is not None
    assert rows.numbers("margin") is None


def test_another_column_has_one_value_for_each_pair() -> None:
    with pytest.raises(ValueError, match="3 pairs"):
        TokenRows.of(PAIRS).with_column("margin", [1.0])


def test_the_fingerprint_is_of_ids_and_contexts_in_order() -> None:
    rows = TokenRows.of(PAIRS)
    same = TokenRows.of([{**pair, "row": 0} for pair in PAIRS]).with_column("margin", np.ones(3))
    assert same.fingerprint == rows.fingerprint == rows.select([0, 1, 2]).fingerprint
    others = [
        rows.select([1, 0, 2]),
        rows.select([0, 1]),
        TokenRows.of([{**PAIRS[0], "chosen_context": []}, *PAIRS[1:]]),
        TokenRows.of([{**PAIRS[0], "prompt_ids": [1], "chosen_ids": [2, 3]}, *PAIRS[1:]]),
    ]
    assert len({rows.fingerprint, *(other.fingerprint for other in others)}) == 5


def test_rows_go_to_another_process() -> None:
    rows = TokenRows.of(PAIRS).with_column("margin", [1, 2, 3]).select([1, 2])
    assert [plain(row) for row in pickle.loads(pickle.dumps(rows))] == [plain(row) for row in rows]
