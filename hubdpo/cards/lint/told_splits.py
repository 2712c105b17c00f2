"""The rows of each split by the `dataset_info` of a card, which anybody may have written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hubdpo.artefacts.formats.bounded import shortened

MOST_ROWS = 2**53


def told_splits(info: Any) -> dict[str, int] | None:
    """Return the rows of each split, None where `dataset_info` tells none. Raise ValueError, naming the field."""
    if isinstance(info, list) and len(info) == 1:
        info = info[0]
    if info is None or (isinstance(info, list) and info):  # of several sets, nothing says which is meant
        return None
    if not isinstance(info, Mapping):
        raise ValueError("`dataset_info` is no mapping of names to values")
    splits = info.get("splits")
    if splits is None:
        return None
    if not isinstance(splits, list):
        raise ValueError(f"`dataset_info.splits` is {_shown(splits)}, and no list")
    found: dict[str, int] = {}
    for number, split in enumerate(splits):
        place = f"dataset_info.splits[{number}]"
        if not isinstance(split, Mapping):
            raise ValueError(f"`{place}` is {_shown(split)}, and no split with a `name`")
        name, rows = split.get("name"), split.get("num_examples")
        if not isinstance(name, str):
            raise ValueError(f"`{place}.name` is {_shown(name) if 'name' in split else 'missing'}")
        if name in found:
            raise ValueError(f"`{place}.name` is {_shown(name)} once more")
        if not isinstance(rows, int) or isinstance(rows, bool) or not 0 <= rows <= MOST_ROWS:
            told = _shown(rows) if "num_examples" in split else "missing"
            raise ValueError(f"`{place}.num_examples` is {told}, and no number of rows")
        found[name] = rows
    return found


def _shown(value: Any) -> str:
    return shortened(repr(value), 60)
