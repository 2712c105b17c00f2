"""The split that a source was published in stays: told by names, one rule for prompts of both."""

from __future__ import annotations

import pytest

from hubdpo.data.published import split_of


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train.jsonl", "train"), ("data/test-00000-of-00001.parquet", "test"), ("dpo_val.jsonl", "test"),
        ("train/data-00000-of-00002.arrow", "train"), ("Test.json.gz", "test"), ("dev2.csv", "test"),
        ("data/train_prefs-00000-of-00001.parquet", "train"), ("alpaca_eval/train.jsonl", "train"),
        ("train/eval.jsonl", "test"), ("validation", "test"), ("train_test.jsonl", None),
        ("train/train_test.csv", "train"),
        ("pairs.jsonl", None), ("latest.jsonl", None), ("contest.jsonl", None), ("pretrained.jsonl", None),
        ("tests/rows.jsonl", None), ("value.json", None),
    ],
)  # fmt: skip
def test_a_name_tells_a_split_by_whole_words(name: str, split: str | None) -> None:
    assert split_of(name) == split
