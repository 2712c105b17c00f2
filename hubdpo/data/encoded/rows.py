"""Tokenised pairs as columns of int32, which a process reads where they lie: in a memory-mapped file, or in memory.

A pair of 450 tokens takes 1.8 kB; as lists of Python's integers it takes 22 kB.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, overload

import numpy as np
import numpy.typing as npt

Row = dict[str, Any]
"""One pair. int32 arrays, which are views of the columns: `prompt_ids`, `chosen_ids`, `rejected_ids`, and in
`chosen_context` and `rejected_context` the bounds (start, stop, start, ...) of the spans of an answer that are not
scored. An int: `row`, its number in the split of the dataset. Floats: `margin`, `weight` and others, where they are."""
Ids = npt.NDArray[np.int32]
Offsets = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.float64]

IDS = ("prompt_ids", "chosen_ids", "rejected_ids")
CONTEXT = ("chosen_context", "rejected_context")
LISTS = (*IDS, *CONTEXT)
SIDES = ("chosen", "rejected")
ROW = "row"


class TokenRows(Sequence[Row]):
    """The tokenised pairs of a split, or some of them in another order. No token is a Python object.

    Shapes: N pairs of `lists`, whose columns are values `[tokens]` and offsets `[N + 1]`; `order` has the pairs that
    are seen, as indices of these, and `numbers` and `row` one value for each that is seen.
    """

    def __init__(
        self,
        lists: Mapping[str, tuple[Ids, Offsets]],
        row: npt.NDArray[np.int64],
        *,
        order: npt.NDArray[np.int64] | None = None,
        numbers: Mapping[str, Numbers] | None = None,
        fingerprint: str | None = None,
    ) -> None:
        self._lists = dict(lists)
        self.row_numbers = row
        """The number `[pairs]` of each pair in its split of the dataset."""
        self._order = order
        self._numbers = dict(numbers or {})
        if fingerprint is not None:
            self.fingerprint = fingerprint  # the file says it, so it need not be computed

    @classmethod
    def of(cls, rows: Iterable[Mapping[str, Any]]) -> TokenRows:
        """Make rows in memory from dicts of lists. A missing context is empty, and a missing `row` the position."""
        rows = list(rows)
        lists = {name: joined([row.get(name, ()) for row in rows]) for name in LISTS}
        numbers = {
            name: np.array([row[name] for row in rows], dtype=np.float64)
            for name in (rows[0] if rows else ())
            if name not in (*LISTS, ROW)
        }
        places = np.array([row.get(ROW, place) for place, row in enumerate(rows)], dtype=np.int64)
        return cls(lists, places, numbers=numbers)

    def __len__(self) -> int:
        return len(self.row_numbers)

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> TokenRows: ...
    def __getitem__(self, index: int | slice) -> Row | TokenRows:
        if isinstance(index, slice):
            return self.select(range(*index.indices(len(self))))
        if not -len(self) <= index < len(self):
            raise IndexError(f"pair {index} of {len(self)}")
        index %= len(self)
        at = index if self._order is None else int(self._order[index])
        row: Row = {name: values[offsets[at] : offsets[at + 1]] for name, (values, offsets) in self._lists.items()}
        row[ROW] = int(self.row_numbers[index])
        for name, numbers in self._numbers.items():
            row[name] = float(numbers[index])
        return row

    @functools.cached_property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Tokens `[pairs, 3]` of each prompt, chosen answer and rejected answer."""
        columns = [np.diff(self._lists[name][1]) for name in IDS]
        return np.stack([column if self._order is None else column[self._order] for column in columns], axis=1)

    def longest(self, count: int | None = None) -> list[int]:
        """Return the indices of so many pairs, those with the longest sequence first; of equal ones, the first."""
        tokens = self.lengths[:, 0] + self.lengths[:, 1:].max(axis=1)
        indices: list[int] = np.argsort(-tokens, kind="stable")[:count].tolist()
        return indices

    def column(self, name: str) -> tuple[Ids, Offsets]:
        """Return values `[tokens]` and offsets `[pairs + 1]` of a column of lists: views, unless rows were selected."""
        values, offsets = self._lists[name]
        if self._order is None:
            return values, offsets
        return joined([values[offsets[at] : offsets[at + 1]] for at in self._order])

    def numbers(self, name: str) -> Numbers | None:
        """Return a column of floats `[pairs]`, None if there is none of this name."""
        return self._numbers.get(name)

    def with_column(self, name: str, values: npt.ArrayLike) -> TokenRows:
        """Return the rows with another column of floats `[pairs]`, or with other values in it."""
        numbers = np.asarray(values, dtype=np.float64)
        if numbers.shape != (len(self),):
            raise ValueError(f"`{name}` has the shape {numbers.shape}, and there are {len(self)} pairs")
        return TokenRows(
            self._lists, self.row_numbers, order=self._order, numbers={**self._numbers, name: numbers},
            fingerprint=self.__dict__.get("fingerprint"),
        )  # fmt: skip

    def select(self, indices: Iterable[int] | npt.NDArray[np.int64]) -> TokenRows:
        """Return some of the rows, or all in another order, without a copy of their ids."""
        some = indices if isinstance(indices, np.ndarray) else np.fromiter(indices, dtype=np.int64)
        numbers = {name: values[some] for name, values in self._numbers.items()}
        order = some if self._order is None else self._order[some]
        return TokenRows(self._lists, self.row_numbers[some], order=order, numbers=numbers)

    @functools.cached_property
    def fingerprint(self) -> str:
        """Hash (hex) of the ids and contexts of all rows, in order; of no number beside them."""
        parts = (np.ascontiguousarray(part) for name in LISTS for part in self.column(name))
        return fingerprint_of(hashlib.sha256(part.data).hexdigest() for part in parts)


def sequence(row: Mapping[str, Any], side: str) -> Ids:
    """Return the ids of a prompt with one of its answers."""
    return np.concatenate([np.asarray(row[name], dtype=np.int32) for name in ("prompt_ids", f"{side}_ids")])


def joined(lists: Sequence[npt.ArrayLike]) -> tuple[Ids, Offsets]:
    """Return lists as one column: values `[sum of lengths]` and offsets `[lists + 1]`."""
    arrays = [np.asarray(each, dtype=np.int32) for each in lists]
    offsets = np.zeros(len(arrays) + 1, dtype=np.int64)
    np.cumsum([len(each) for each in arrays], out=offsets[1:])
    return (np.concatenate(arrays) if arrays else np.zeros(0, dtype=np.int32)), offsets


def fingerprint_of(digests: Iterable[str]) -> str:
    """Return the fingerprint of rows from the digests of the values and the offsets of each of LISTS, in order."""
    return hashlib.sha256("".join(digests).encode()).hexdigest()
