"""Rows of splits are read from `dataset_info`, and malformed fields are named."""

from __future__ import annotations

from typing import Any

import pytest

from hubdpo.cards.lint.data import lint_data, split_rows

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
    assert split_rows(info) == told


ODD = [
    (5, "`dataset_info` is not a mapping"),
    ([], "`dataset_info` is not a mapping"),
    ([5], "`dataset_info` is not a mapping"),
    ({"splits": "hello"}, "`dataset_info.splits` is not a list: 'hello'"),
    ({"splits": {"train": 5}}, "`dataset_info.splits` is not a list: {'train': 5}"),
    ({"splits": [GOOD, "x"]}, "`dataset_info.splits[1]` is not a mapping with a `name`: 'x'"),
    ({"splits": [{"num_examples": 3}]}, "`dataset_info.splits[0].name` is missing"),
    ({"splits": [GOOD | {"name": ["a"]}]}, "`dataset_info.splits[0].name` is not text: ['a']"),
    ({"splits": [GOOD, GOOD]}, "`dataset_info.splits[1].name` is repeated: 'train'"),
    ({"splits": [{"name": "train"}]}, "`dataset_info.splits[0].num_examples` is missing"),
    *[
        (
            {"splits": [GOOD | {"num_examples": value}]},
            f"`dataset_info.splits[0].num_examples` is not a number of rows: {value!r}",
        )
        for value in ("x", "3", 3.0, float("inf"), True, -1, 2**60, None)
    ],
]


@pytest.mark.parametrize(("info", "says"), ODD)
def test_malformed_splits_are_named(info: Any, says: str) -> None:
    with pytest.raises(ValueError, match="dataset_info") as caught:
        split_rows(info)
    assert says in str(caught.value) and len(str(caught.value)) < 200


CONFIGS = [{"config_name": "a", "data_files": [{"split": "train", "path": "*.parquet"}]}]


@pytest.mark.parametrize(
    ("info", "says"),
    [
        *[(info, says) for info, says in ODD if isinstance(info, dict) and isinstance(info["splits"], list)],
        ({"splits": [GOOD | {"num_bytes": "x"}], "features": 5}, "cannot be compared: `a.parquet` is not a Parquet"),
    ],
)
def test_the_card_check_names_malformed_splits(info: Any, says: str) -> None:
    found = list(lint_data({"configs": CONFIGS, "dataset_info": info}, {"a.parquet": b"PAR1" + b"\xff" * 50}))
    assert [finding.field for finding in found] == ["dataset_info"] and says in found[0].message


@pytest.mark.parametrize("configs", [[{"config_name": "a", "data_files": []}], 5, [5], [{"config_name": []}], []])
def test_malformed_configs_raise_no_error(configs: Any) -> None:
    list(lint_data({"configs": configs, "dataset_info": {"splits": []}}, {"a.jsonl": b"{}"}))
