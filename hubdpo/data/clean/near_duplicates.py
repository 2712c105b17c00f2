"""Find near-duplicates with MinHash (Broder 1997): texts that share most of their runs of three words."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hubdpo.artefacts.formats.messages import Message
from hubdpo.data.clean.keys import mix
from hubdpo.data.pairs.example import PreferenceExample
from hubdpo.data.pairs.extras import EXTRA

if TYPE_CHECKING:
    from datasketch import MinHash

PERMUTATIONS = 64
BANDS = 16
SIMILAR = 0.8
"""Least share of equal signature values, which estimates the Jaccard similarity of the two sets of runs."""
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|\w+")
_ROWS_AT_ONCE = 1 << 16

Signatures = npt.NDArray[np.uint32]
Rows = npt.NDArray[np.intp]


@functools.cache
def _empty_sketch() -> MinHash:
    # slow to import, and needed only by `--dedupe near`
    import xxhash
    from datasketch import MinHash

    return MinHash(num_perm=PERMUTATIONS, seed=1, hashfunc=xxhash.xxh32_intdigest)


def signature(parts: Iterable[tuple[str, list[Message]]]) -> Signatures:
    """Return the MinHash signature, uint32 (PERMUTATIONS,), of named message lists.

    The name is part of each run, so the same words in `chosen` and in `rejected` are different runs.
    """
    runs: list[bytes] = []
    for name, messages in parts:
        said = (f"{each['content']} {each[EXTRA]}" if EXTRA in each else each["content"] for each in messages)
        words = _WORD.findall(" ".join(said).casefold())
        runs += [f"{name} {' '.join(words[i : i + 3])}".encode() for i in range(max(1, len(words) - 2))]
    # a copy shares the permutations, which would take longer to draw than to apply
    sketch = _empty_sketch().copy()
    sketch.update_batch(runs)
    hashes: Signatures = sketch.hashvalues.astype(np.uint32)  # datasketch holds 32-bit values in uint64
    return hashes


def pair_signatures(example: PreferenceExample) -> Signatures:
    """Return the signatures of the prompt and of the whole pair, uint32 (2, PERMUTATIONS).

    Tools are left out: they are long, and the same for many prompts that have nothing else in common.
    """
    parts = [("", example.prompt), ("+", example.chosen), ("-", example.rejected)]
    return np.stack([signature(parts[:1]), signature(parts)])


def near_groups(signatures: Signatures, *, same: npt.NDArray[np.uint64] | None = None) -> Rows:
    """Group similar rows, and return the first row of each row's group, int64 (rows,).

    `signatures` is uint32 (rows, PERMUTATIONS). Rows with equal values in `same`, uint64 (rows,), are in one group
    whatever their signatures. Similarity is transitive here: if A is like B and B is like C, all three are one group.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    count = len(signatures)
    edges = list(_edges(signatures, same))
    if not edges:
        return np.arange(count)
    rows, firsts = np.concatenate(edges, axis=1)  # int64 (edges,) each
    graph = coo_array((np.ones(len(rows), np.bool_), (rows, firsts)), (count, count))
    _, labels = connected_components(graph, directed=False)
    # labels, int32 (rows,), number the groups from 0, so the sorted labels are the indices of first_of_label, (groups,)
    _, first_of_label = np.unique(labels, return_index=True)
    groups: Rows = first_of_label[labels]
    return groups


def _edges(signatures: Signatures, same: npt.NDArray[np.uint64] | None) -> Iterator[Rows]:
    """Yield pairs (row, earlier row) that belong together, int64 (2, pairs).

    Locality-sensitive hashing: a signature is cut into BANDS bands of 4 values, and rows that agree in a whole band are
    candidates. A row is compared only with the first row of its band, so a few near-duplicates are missed, and no row
    is grouped without a similar one.
    """
    if same is not None:
        yield from _equal_rows(same)
    for band in np.array_split(np.arange(PERMUTATIONS), BANDS):
        for pairs in _equal_rows(_band_hashes(signatures[:, band])):
            rows, firsts = pairs
            # bool (pairs,): the whole signatures are compared, of which the band is a sixteenth
            similar = (signatures[rows] == signatures[firsts]).mean(axis=1) >= SIMILAR
            yield pairs[:, similar]


def _band_hashes(band: Signatures) -> npt.NDArray[np.uint64]:
    """Hash each row of a band to uint64 (rows,). A collision costs one comparison and groups nothing by itself."""
    low, high = np.ascontiguousarray(band).view(np.uint64).T
    hashes: npt.NDArray[np.uint64] = mix(low) ^ high
    return hashes


def _equal_rows(values: npt.NDArray[np.uint64]) -> Iterator[Rows]:
    """Yield (row, first row with the same value) for every row that repeats a value, int64 (2, up to _ROWS_AT_ONCE)."""
    _, first, inverse = np.unique(values, return_index=True, return_inverse=True)
    firsts = first[inverse]  # int64 (rows,): the first row with the value of each row
    repeats = np.flatnonzero(firsts != np.arange(len(values)))
    # in parts: the caller looks up two signatures for each pair, (pairs, 64) uint32, 16 MiB a part and side
    for start in range(0, len(repeats), _ROWS_AT_ONCE):
        rows = repeats[start : start + _ROWS_AT_ONCE]
        yield np.stack([rows, firsts[rows]])
