"""Anybody may have written `dataset_info`: what it tells is read, and what it cannot mean is named."""

from __future__ import annotations

from typing import Any

import pytest

from hubdpo.cards.lint.data import lint_data
from hubdpo.cards.lint.told_splits import told_splits

GOOD: dict[str, Any] = {"name": "train", "num_examples": 3, "num_bytes": 9}


@pytest.mark.parametrize(
    ("info", "told"),
    [
        (None, None),
        ({}, None),
        ({"splits": None}, None),
        ({"splits": []}, {}),
        ({"splits": [GOOD]}, {"train": 3}),
        ([{"splits": [GOOD]}], {"train": 3}),
        ([{"splits": [GOOD]}, {"splits": [GOOD]}], None),
    ],
)
def test_the_rows_of_splits_are_read(info: Any, told: dict[str, int] | None) -> None:
    assert told_splits(info) == told


ODD = [
    (5, "`dataset_info` is no mapping"),
    ([], "`dataset_info` is no mapping"),
    ([5], "`dataset_info` is no mapping"),
    ({"splits": "hello"}, "`dataset_info.splits` is 'hello', and no list"),
    ({"splits": {"train": 5}}, "`dataset_info.splits` is {'train': 5}, and no list"),
    ({"splits": [GOOD, "x"]}, "`dataset_info.splits[1]` is 'x', and no split"),
    ({"splits": [{"num_examples": 3}]}, "`dataset_info.splits[0].name` is missing"),
    ({"splits": [GOOD | {"name": ["a"]}]}, "`dataset_info.splits[0].name` is ['a']"),
    ({"splits": [GOOD, GOOD]}, "`dataset_info.splits[1].name` is 'train' once more"),
    ({"splits": [{"name": "train"}]}, "`dataset_info.splits[0].num_examples` is missing"),
    *[
        ({"splits": [GOOD | {"num_examples": value}]}, f"`dataset_info.splits[0].num_examples` is {value!r}, and no")
        for value in ("x", "3", 3.0, float("inf"), True, -1, 2**60, None)
    ],
]


@pytest.mark.parametrize(("info", "says"), ODD)
def test_what_splits_cannot_be_is_named(info: Any, says: str) -> None:
    with pytest.raises(ValueError, match="dataset_info") as caught:
        told_splits(info)
    assert says in str(caught.value) and len(str(caught.value)) < 200


CONFIGS = [{"config_name": "a", "data_files": [{"split": "train", "path": "*.parquet"}]}]


@pytest.mark.parametrize(
    ("info", "says"),
    [
        *[(info, says) for info, says in ODD if isinstance(info, dict) and isinstance(info["splits"], list)],
        ({"splits": [GOOD | {"num_bytes": "x"}], "features": 5}, "cannot be compared: `a.parquet` is no Parquet file"),
    ],
)
def test_the_card_check_names_it_as_well(info: Any, says: str) -> None:
    found = list(lint_data({"configs": CONFIGS, "dataset_info": info}, {"a.parquet": b"PAR1" + b"\xff" * 50}))
    assert [finding.field for finding in found] == ["dataset_info"] and says in found[0].message


@pytest.mark.parametrize("configs", [[{"config_name": "a", "data_files": []}], 5, [5], [{"config_name": []}], []])
def test_odd_configs_are_no_traceback(configs: Any) -> None:
    list(lint_data({"configs": configs, "dataset_info": {"splits": []}}, {"a.jsonl": b"{}"}))
