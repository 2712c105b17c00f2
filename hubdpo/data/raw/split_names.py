"""Tell the published split of rows from the names of their files or from a column, so that test rows stay test rows.

hubdpo has two splits. Validation rows are held out as well, so they count as test rows.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from hubdpo.data.raw.inner_rows import find_path

Split = Literal["train", "test"]
SPLITS: tuple[Split, ...] = ("train", "test")
CODES: dict[Split | None, int] = {None: 0, "train": 1, "test": 2}
"""How row keys hold the split in which a row was published."""
PUBLISHED, NONE = "published", "none"
"""Values of `--split` that are no columns."""

TRAIN_WORDS = frozenset({"train", "training", "trainset"})
TEST_WORDS = frozenset({
    "test", "testing", "testset", "val", "valid", "validation", "valset", "dev", "devset", "eval", "evaluation",
    "heldout", "holdout",
})  # fmt: skip
TRAIN_CHINESE, TEST_CHINESE = ("训练", "訓練"), ("测试", "測試", "验证", "驗證", "评测", "評測")
"""Matched anywhere in a name, because Chinese has no space between words."""
_WORD = re.compile(r"[a-z]+")
_SET = re.compile(r"(?:[数數][据據])?[集组組]?")


@functools.lru_cache(maxsize=4096)
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


@dataclass(frozen=True)
class SplitColumn:
    """A column, or a place in it such as `meta.split`, that may name the split of a row.

    Only one that was `asked` for takes precedence over the name of the file.
    """

    place: str = "split"
    asked: bool = True

    @classmethod
    def of(cls, option: str | float | None) -> SplitColumn | None:
        """Return the column to look at for a value of `--split`, or of the `split` of a source."""
        if option in (NONE, *SPLITS) or isinstance(option, float):
            return None
        return cls(asked=False) if option in (None, PUBLISHED) else cls(str(option))


def split_codes(rows: Sequence[dict[str, Any]], place: str) -> tuple[list[int], list[Any]]:
    """Return the code of the split that a column, or a place in it, names for each row, and its values."""
    values = [find_path(row, place)[1] for row in rows] if "." in place else [row.get(place) for row in rows]
    if not any(values):
        return [0] * len(rows), values
    return [CODES[split_of(value)] if value.__class__ is str else 0 for value in values], values


def is_split_name(name: str) -> bool:
    """Return whether a folder is named after a split and nothing else, such as `train`, `dev` or `训练集`."""
    if name.lower() in TRAIN_WORDS | TEST_WORDS:
        return True
    return any(name.startswith(word) and _SET.fullmatch(name, len(word)) for word in TRAIN_CHINESE + TEST_CHINESE)


def has_published_split(splits: Iterable[Split | None]) -> bool:
    """Return whether some rows, but not all, are published as test rows; rows of no named split are then train rows."""
    return {split == "test" for split in splits} == {True, False}
