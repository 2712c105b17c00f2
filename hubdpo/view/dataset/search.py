"""Find the rows that a reader asks for: by text, length, source, and which answer is the longer one."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from hubdpo.artefacts.formats.messages import COLUMNS
from hubdpo.artefacts.manifests.prepare import Source
from hubdpo.view.dataset.index import Index, Known
from hubdpo.view.dataset.table import Group, Table
from hubdpo.view.dataset.texts import Flags, Texts, has_flags, needed_flags, read_texts

BUDGET_S, COUNTING_S = 1.2, 0.3
"""Longest time in which a page of matches is looked for, and in which those of the pages after the first are counted.

The reader may go on from where a search stopped.
"""
Longer = Literal["chosen", "rejected", "same"]


@dataclass(frozen=True)
class Wanted:
    """What rows a reader asks for: `least` and `most` are characters of the whole pair; `places` are rows of a source.

    `text` is found in prompts and answers, in any case.
    """

    text: str = ""
    longer: Longer | None = None
    least: int | None = None
    most: int | None = None
    places: range | None = None

    def fits(self, characters: npt.NDArray[np.int32]) -> Flags:
        """Tell which rows have the wanted lengths, (rows,); `characters` are (rows, 3)."""
        fits: Flags = np.ones(len(characters), bool)
        total = characters.sum(axis=1)
        if self.least is not None:
            fits &= total >= self.least
        if self.most is not None:
            fits &= total <= self.most
        if self.longer is not None:
            fits &= (
                np.sign(characters[:, 1] - characters[:, 2]) == {"chosen": 1, "rejected": -1, "same": 0}[self.longer]
            )
        return fits


@dataclass(frozen=True)
class Found:
    """Rows in the order of the dataset, and where the search stopped: `at` is the next row, None at the end."""

    rows: list[int]
    at: int | None
    looked_at: int
    """Rows that were looked at, or known not to fit."""
    total: int | None
    """All rows that fit, if that is known."""


def find(
    table: Table, index: Index, split: str, wanted: Wanted, *, start: int, count: int, backwards: bool = False
) -> Found:
    """Find `count` rows from `start` on, or before it; stop after BUDGET_S, with what was found until then."""
    known, started = index.splits[split], time.monotonic()
    counts = not start and not backwards
    done = known.groups  # the index goes on meanwhile
    groups = table.groups(split)
    ahead = [at for at, group in enumerate(groups) if (group.start < start if backwards else group.stop > start)]
    if backwards:
        ahead.reverse()
    needle = needle_of(wanted.text)
    may_have = _may_have(known, done, groups, wanted, needle)
    read = table.read([groups[at] for at in ahead if may_have[at] and (wanted.text or at >= done)], COLUMNS)
    found: list[int] = []
    looked_at = 0
    stop = 0 if backwards else table.splits[split]
    for at in ahead:
        group = groups[at]
        looked_at += group.rows
        if not may_have[at]:
            continue
        texts = read_texts(next(read)) if wanted.text or at >= done else []
        characters = (
            known.characters[group.start : group.stop] if at < done
            else np.stack([text.characters() for text in texts], axis=1)
        )  # fmt: skip
        rows = np.flatnonzero(wanted.fits(characters)) + group.start
        rows = rows[rows < start] if backwards else rows[rows >= start]
        if wanted.places is not None:
            rows = rows[(rows >= wanted.places.start) & (rows < wanted.places.stop)]
        if wanted.text:
            rows = rows[np.isin(rows - group.start, _with_text(texts, wanted.text, needle))]
        found += rows[:: -1 if backwards else 1].tolist()
        seconds = time.monotonic() - started
        if seconds > BUDGET_S or len(found) > count and (not counts or seconds > COUNTING_S):
            stop = group.start if backwards else group.stop
            break
    else:
        if counts:
            index.remember((split, wanted), len(found))
    if len(found) > count:
        stop = found[count - 1] if backwards else found[count]
    is_end = stop == (0 if backwards else table.splits[split])
    total = _total(known, wanted)
    return Found(sorted(found[:count]), None if is_end else stop, looked_at, index.totals.get((split, wanted), total))


def _may_have(known: Known, done: int, groups: list[Group], wanted: Wanted, needle: bytes) -> Flags:
    """Tell which row groups may have wanted rows, (groups,), by what is known of the first `done`."""
    may_have: Flags = np.ones(len(groups), bool)
    if wanted.places is not None:
        places = wanted.places
        may_have &= np.array([group.stop > places.start and group.start < places.stop for group in groups], bool)
    if needle:
        may_have[:done] &= has_flags(known.flags[:done], needed_flags(needle))
    return may_have


def _total(known: Known, wanted: Wanted) -> int | None:
    if wanted.text or known.groups < len(known.flags):
        return None
    places = range(len(known.characters)) if wanted.places is None else wanted.places
    return int(wanted.fits(known.characters[places.start : places.stop]).sum())


def _with_text(texts: list[Texts], text: str, needle: bytes) -> list[int]:
    found: set[int] = set()
    lower = text.lower()
    is_exact = needle == lower.encode() and not texts[0].is_json
    for column in texts:
        for row in column.rows_with(needle) if needle else range(len(column.ends) - 1):
            if row not in found and (is_exact or lower in column.text(row).lower()):
                found.add(row)
    return sorted(found)


def needle_of(text: str) -> bytes:
    """Return the longest part of a text that can be found by its bytes, in lower case.

    Left out are letters whose case is not that of ASCII, and characters that JSON escapes.
    """
    letters = "".join(letter for letter in set(text) if not letter.isascii() and letter.lower() != letter.upper())
    parts = re.split(f'[\\x00-\\x1f"\\\\{re.escape(letters)}]+', text)
    return max((part.lower().encode() for part in parts), key=len)


def sources_of(sources: Sequence[Source], split: str) -> Iterator[tuple[str, range]]:
    """Yield the sources of a split with the rows that come from each: those of a source follow those before it."""
    start, names = 0, Counter[str]()
    for source in sources:
        names[source.name] += 1
        if count := source.pairs.get(split, 0):
            again = f" ({names[source.name]})" if names[source.name] > 1 else ""
            yield source.name + again, range(start, start + count)
            start += count
