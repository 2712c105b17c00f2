"""Tell the published split of a source from the names of its files, so that its test rows stay test rows.

hubdpo has two splits. Validation rows are held out as well, so they count as test rows.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal

Split = Literal["train", "test"]

TRAIN_WORDS = frozenset({"train", "training", "trainset"})
TEST_WORDS = frozenset({
    "test", "testing", "testset", "val", "valid", "validation", "valset", "dev", "devset", "eval", "evaluation",
    "heldout", "holdout",
})  # fmt: skip
TRAIN_CHINESE, TEST_CHINESE = ("训练", "訓練"), ("测试", "測試", "验证", "驗證", "评测", "評測")
"""Matched anywhere in a name, because Chinese has no space between words."""
_WORD = re.compile(r"[a-z]+")
_SET = re.compile(r"(?:[数數][据據])?[集组組]?")


def split_of(name: str) -> Split | None:
    """Return the split that a path or a key names: `data/test-00000-of-00001.parquet`, `dpo_val.jsonl`.

    The last part of the path that names a split decides. A part that names both, such as `train_test.jsonl`, does not.
    """
    for part in reversed(name.lower().split("/")):
        words = set(_WORD.findall(part))
        train = not words.isdisjoint(TRAIN_WORDS) or any(word in part for word in TRAIN_CHINESE)
        test = not words.isdisjoint(TEST_WORDS) or any(word in part for word in TEST_CHINESE)
        if train != test:
            return "train" if train else "test"
    return None


def is_split_name(name: str) -> bool:
    """Return whether a folder is named after a split and nothing else, such as `train`, `dev` or `训练集`."""
    if name.lower() in TRAIN_WORDS | TEST_WORDS:
        return True
    return any(name.startswith(word) and _SET.fullmatch(name, len(word)) for word in TRAIN_CHINESE + TEST_CHINESE)


def has_published_split(splits: Iterable[Split | None]) -> bool:
    """Return whether some rows, but not all, are published as test rows; rows of no named split are then train rows."""
    return {split == "test" for split in splits} == {True, False}
