"""Near-duplicates by MinHash (Broder 1997): texts that share most of their three-word runs."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from hubdpo.artefacts.formats.messages import Message

PERMUTATIONS = 64
BANDS = 16
SIMILAR = 0.8
"""Least share of equal signature places, an estimate of the Jaccard similarity of the two sets of runs."""
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|\w+")


@functools.cache
def _empty() -> Any:
    # slow to import, and needed only for `--dedupe near`
    import xxhash
    from datasketch import MinHash

    return MinHash(num_perm=PERMUTATIONS, seed=1, hashfunc=xxhash.xxh32_intdigest)


def signature(parts: Iterable[tuple[str, list[Message]]]) -> Any:
    """Return uint32 (PERMUTATIONS,) of messages; the runs of parts with another name count as other runs."""
    runs: list[bytes] = []
    for name, messages in parts:
        words = _WORD.findall(" ".join(message["content"] for message in messages).casefold())
        runs += [f"{name} {' '.join(words[i : i + 3])}".encode() for i in range(max(1, len(words) - 2))]
    sketch = _empty().copy()
    sketch.update_batch(runs)
    return sketch.hashvalues.astype(np.uint32)


def near_groups(signatures: Any, *, same: Any = None) -> Any:
    """Return int64 (rows,): the first row of the group that each row is in; similarity is passed on within a group.

    Rows with equal values in `same` (rows,) are in one group whatever their signatures.

    Candidates share one of BANDS bands of the signature; each is compared with the first row of its band in full, so a
    few near-duplicates may be missed and none is found that is not similar to another of its group.
    """
    parent = np.arange(len(signatures), dtype=np.int64)
    if same is not None:
        for rows, heads in _candidates(same):
            _join_all(parent, rows, heads)
    for band in np.array_split(np.arange(PERMUTATIONS), BANDS):
        for rows, heads in _candidates(_mixed(signatures[:, band])):
            alike = (signatures[rows] == signatures[heads]).mean(axis=1) >= SIMILAR
            _join_all(parent, rows[alike], heads[alike])
    return np.array([_root(parent, row) for row in range(len(parent))], np.int64)


def _mixed(band: Any) -> Any:
    """Return uint64 (rows,) of a band; two bands that meet by chance only make a candidate, which is then compared."""
    mixed = np.zeros(len(band), np.uint64)
    for column in range(band.shape[1]):
        mixed = (mixed ^ band[:, column].astype(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
    return mixed


def _candidates(values: Any) -> Iterator[tuple[Any, Any]]:
    """Give rows that have the value of an earlier row, with the first such row, some at a time."""
    _, first, inverse = np.unique(values, return_index=True, return_inverse=True)
    heads = first[inverse]
    others = np.flatnonzero(heads != np.arange(len(values)))
    for start in range(0, len(others), 1 << 16):
        rows = others[start : start + (1 << 16)]
        yield rows, heads[rows]


def _join_all(parent: Any, rows: Any, heads: Any) -> None:
    for row, head in zip(rows.tolist(), heads.tolist(), strict=True):
        a, b = _root(parent, row), _root(parent, head)
        parent[max(a, b)] = min(a, b)


def _root(parent: Any, row: int) -> int:
    while parent[row] != row:
        parent[row] = parent[parent[row]]
        row = parent[row]
    return int(row)
