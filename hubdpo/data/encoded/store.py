"""Tokenised pairs on disk: a folder with one `.npy` file for each column, which every process maps into its memory.

NumPy's format needs the number of values first, so a column is written behind the header of an empty one, which NumPy
pads for numbers to come, and the header is written again at the end.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel

from hubdpo.artefacts.formats.bounded import parse_json, read_bytes
from hubdpo.artefacts.manifests.manifest import Count, Sha256
from hubdpo.data.encoded.rows import LISTS, ROW, TokenRows, fingerprint_of
from hubdpo.data.tokens.tokenize import Account

FACTS = "facts.json"
VALUES, OFFSETS = "{}.npy", "{}.offsets.npy"
_FILES = {name.format(column): kind for column in LISTS for name, kind in ((VALUES, "<i4"), (OFFSETS, "<i8"))}
FILES = {**_FILES, VALUES.format(ROW): "<i8"}
"""The type of each file of a folder, in the order in which a fingerprint has those of the lists."""


class Facts(BaseModel):
    """`facts.json`: the SHA-256 of each column, and what became of all rows."""

    digests: dict[str, Sha256]
    counts: dict[str, Count]
    end_of_turn: tuple[str, int] | None


class _Column:
    """A `.npy` file of one dimension that grows."""

    def __init__(self, path: Path, kind: str) -> None:
        self._kind, self._length = np.dtype(kind), 0
        self._stream: BinaryIO = path.open("xb")
        self._write_header()

    def append(self, values: npt.NDArray[Any]) -> None:
        self._stream.write(np.ascontiguousarray(values, dtype=self._kind).data)
        self._length += len(values)

    def close(self) -> None:
        self._stream.seek(0)
        self._write_header()
        self._stream.close()

    def _write_header(self) -> None:
        header = {"descr": self._kind.str, "fortran_order": False, "shape": (self._length,)}
        np.lib.format.write_array_header_1_0(self._stream, header)


def write(folder: Path, parts: Iterable[tuple[TokenRows, Counter[str]]], end_of_turn: tuple[str, int] | None) -> None:
    """Write the rows of all parts into a new folder, one part at a time, and their counts."""
    folder.mkdir()
    columns = {name: _Column(folder / name, kind) for name, kind in FILES.items()}
    ends = dict.fromkeys(LISTS, 0)
    for name in LISTS:
        columns[OFFSETS.format(name)].append(np.zeros(1, dtype=np.int64))
    counts: Counter[str] = Counter()
    try:
        for rows, counted in parts:
            for name in LISTS:
                values, offsets = rows.column(name)
                columns[VALUES.format(name)].append(values)
                columns[OFFSETS.format(name)].append(offsets[1:] + ends[name])
                ends[name] += len(values)
            columns[VALUES.format(ROW)].append(rows.row_numbers)
            counts += counted
    finally:
        for column in columns.values():
            column.close()
    digests = {name: _digest(folder / name) for name in FILES}
    facts = Facts(digests=digests, counts=counts, end_of_turn=end_of_turn)
    (folder / FACTS).write_text(facts.model_dump_json(), encoding="utf-8")


def read(folder: Path, *, trusted: bool = False) -> tuple[TokenRows, Account]:
    """Map the columns of a folder into memory. Raise ValueError or OSError unless they are as they were written.

    That is checked by reading all files, unless the folder is `trusted`: this process has just written it.
    """
    facts = Facts.model_validate(parse_json(read_bytes(folder / FACTS), ours=True))
    if facts.digests.keys() != FILES.keys():
        raise ValueError(f"{FACTS} lists other files")
    if changed := [name for name in FILES if not trusted and _digest(folder / name) != facts.digests[name]]:
        raise ValueError(f"{changed[0]} was changed")
    # as plain arrays: a slice of a memmap costs several times as much
    arrays = {name: np.load(folder / name, mmap_mode="r").view(np.ndarray) for name in FILES}
    lists = {name: (arrays[VALUES.format(name)], arrays[OFFSETS.format(name)]) for name in LISTS}
    rows = TokenRows(
        lists, arrays[VALUES.format(ROW)], fingerprint=fingerprint_of(facts.digests[name] for name in _FILES)
    )
    return rows, Account(Counter(facts.counts), facts.end_of_turn)


def _digest(path: Path) -> str:
    """Return the SHA-256 (hex) of the numbers in a file; its pages do not stay in this process, as mapped ones do."""
    with path.open("rb") as stream:
        if np.lib.format.read_magic(stream) != (1, 0):
            raise ValueError(f"{path.name} is no column")
        np.lib.format.read_array_header_1_0(stream)
        return hashlib.file_digest(stream, "sha256").hexdigest()
