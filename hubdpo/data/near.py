"""Near-duplicates by MinHash (Broder 1997): texts that share most of their three-word runs."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import numpy as np
import xxhash
from datasketch import MinHash

from hubdpo.data.preference import Message

PERMUTATIONS = 64
BANDS = 16
SIMILAR = 0.8
"""Least share of equal signature places, an estimate of the Jaccard similarity of the two sets of runs."""
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|\w+")
_EMPTY = MinHash(num_perm=PERMUTATIONS, seed=1, hashfunc=xxhash.xxh32_intdigest)


def signature(parts: Iterable[tuple[str, list[Message]]]) -> Any:
    """Return uint32 (PERMUTATIONS,) of messages; the runs of parts with another name count as other runs."""
    runs: list[bytes] = []
    for name, messages in parts:
        words = _WORD.findall(" ".join(message["content"] for message in messages).casefold())
        runs += [f"{name} {' '.join(words[i : i + 3])}".encode() for i in range(max(1, len(words) - 2))]
    sketch = _EMPTY.copy()
    sketch.update_batch(runs)
    return sketch.hashvalues.astype(np.uint32)


def near_groups(signatures: Any) -> Any:
    """Return int64 (rows,): the first row of the group that each row is in; similarity is passed on within a group.

    Candidates share one of BANDS bands of the signature; each is compared with the first row of its band in full, so a
    few near-duplicates may be missed and none is found that is not similar to another of its group.
    """
    parent = np.arange(len(signatures), dtype=np.int64)
    for band in np.array_split(np.arange(PERMUTATIONS), BANDS):
        keys = np.ascontiguousarray(signatures[:, band]).view(f"V{4 * len(band)}").ravel()
        _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
        others = np.flatnonzero(first[inverse] != np.arange(len(keys)))
        for start in range(0, len(others), 1 << 16):
            rows = others[start : start + (1 << 16)]
            heads = first[inverse[rows]]
            alike = (signatures[rows] == signatures[heads]).mean(axis=1) >= SIMILAR
            for row, head in zip(rows[alike].tolist(), heads[alike].tolist(), strict=True):
                _join(parent, row, head)
    return np.array([_root(parent, row) for row in range(len(parent))], np.int64)


def _join(parent: Any, a: int, b: int) -> None:
    a, b = _root(parent, a), _root(parent, b)
    parent[max(a, b)] = min(a, b)


def _root(parent: Any, row: int) -> int:
    while parent[row] != row:
        parent[row] = parent[parent[row]]
        row = parent[row]
    return int(row)
