"""The split that a source was published in, told by the names of its files: whoever made it, keeps its test rows apart.

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
_WORD = re.compile(r"[a-z]+")


def split_of(name: str) -> Split | None:
    """Tell the split that a path, or the key of a list, names: `data/test-00000-of-00001.parquet`, `dpo_val.jsonl`.

    The last part that names one split decides; a part that names both, such as `train_test.jsonl`, tells nothing.
    """
    for part in reversed(name.lower().split("/")):
        words = set(_WORD.findall(part))
        train, test = not words.isdisjoint(TRAIN_WORDS), not words.isdisjoint(TEST_WORDS)
        if train != test:
            return "train" if train else "test"
    return None


def is_split_name(name: str) -> bool:
    """Tell whether a folder is called as a split and nothing else, as `train` or `dev`."""
    return name.lower() in TRAIN_WORDS | TEST_WORDS


def has_published_split(splits: Iterable[Split | None]) -> bool:
    """Tell whether some rows, but not all, were published as test rows; what names no split then is train."""
    return {split == "test" for split in splits} == {True, False}
