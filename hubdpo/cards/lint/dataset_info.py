"""Read the number of rows of each split from the `dataset_info` of a card, which may be malformed."""

from __future__ import annotations

from collections.abc import Mapping

from hubdpo.artefacts.formats.bounded import shortened

MOST_ROWS = 2**53


def split_rows(info: object) -> dict[str, int] | None:
    """Return the number of rows of each split, None if `dataset_info` has no splits.

    Raise ValueError, naming the field, for a malformed `dataset_info`.
    """
    if isinstance(info, list) and len(info) == 1:
        info = info[0]
    if info is None or (isinstance(info, list) and info):  # several configurations: none is the default
        return None
    if not isinstance(info, Mapping):
        raise ValueError("`dataset_info` is not a mapping")
    splits = info.get("splits")
    if splits is None:
        return None
    if not isinstance(splits, list):
        raise ValueError(f"`dataset_info.splits` is not a list: {_shown(splits)}")
    rows_of: dict[str, int] = {}
    for number, split in enumerate(splits):
        field = f"dataset_info.splits[{number}]"
        if not isinstance(split, Mapping):
            raise ValueError(f"`{field}` is not a mapping with a `name`: {_shown(split)}")
        for key in ("name", "num_examples"):
            if key not in split:
                raise ValueError(f"`{field}.{key}` is missing")
        name, rows = split["name"], split["num_examples"]
        if not isinstance(name, str):
            raise ValueError(f"`{field}.name` is not text: {_shown(name)}")
        if name in rows_of:
            raise ValueError(f"`{field}.name` is repeated: {_shown(name)}")
        if not isinstance(rows, int) or isinstance(rows, bool) or not 0 <= rows <= MOST_ROWS:
            raise ValueError(f"`{field}.num_examples` is not a number of rows: {_shown(rows)}")
        rows_of[name] = rows
    return rows_of


def _shown(value: object) -> str:
    return shortened(repr(value), 60)
