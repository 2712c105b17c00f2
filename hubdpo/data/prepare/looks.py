"""Look at the first rows of every file, and find the converter of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice

from hubdpo.config import PrepareConfig
from hubdpo.data.clean.screen import opened_row
from hubdpo.data.converters.formats.described import NAME
from hubdpo.data.detection.detect import MOST_ROWS, Look, check_converter, detect_all, look
from hubdpo.data.pairs.example import Row
from hubdpo.data.prepare.described import DescribedSource, in_item
from hubdpo.data.prepare.dropped import unreadable
from hubdpo.data.raw.pieces import Piece, PieceReader

LEAST_ROWS = 64
"""Fewest rows to look at in each file, however many files there are; a large file gives some of each piece."""
LEAST_OF_A_PIECE = 8


@dataclass(frozen=True)
class LookedAt:
    """A file: its pieces, its first rows, and the source that it belongs to."""

    pieces: list[Piece]
    seen: Look
    rows: list[Row]
    described: DescribedSource


def look_at_files(
    config: PrepareConfig, described: Sequence[DescribedSource], pieces: Sequence[Piece]
) -> list[LookedAt]:
    """Look at every file, in their order. Raise DataError for a file of which no row can be read."""
    groups = [list(some) for _, some in groupby(pieces, lambda piece: piece.file.number)]
    most = max(MOST_ROWS // max(len(groups), 1), LEAST_ROWS)
    files = []
    for some in groups:
        rows = list(_first_rows(config, some, most))
        if not rows and (problem := unreadable(some, config.max_line_bytes)):
            raise problem
        file = some[0].file
        files.append(LookedAt(some, look(rows, file.name, file.argument), rows, described[file.described]))
    return files


def converters_of(config: PrepareConfig, files: Sequence[LookedAt]) -> list[str]:
    """Return the name of the converter of each file: the one given or described, or the one detected.

    Files of one source are looked at together. Raise DataError for a file that no converter reads.
    """
    sources = [list(some) for _, some in groupby(files, lambda file: file.pieces[0].file.described)]
    names: list[str] = []
    for some in sources:
        described = some[0].described
        with in_item(config, described):
            names += _converters(described, [file.seen for file in some], alone=len(sources) == 1)
    return names


def _converters(described: DescribedSource, looks: list[Look], *, alone: bool) -> list[str]:
    name = described.source.converter
    if described.columns is not None:
        return [NAME] * len(looks)
    if name is None:
        return detect_all(looks, alone=alone)
    check_converter(name, described.converter(name).bind(described.how), looks)
    return [name] * len(looks)


def _first_rows(config: PrepareConfig, pieces: list[Piece], most: int) -> Iterator[Row]:
    """Yield the first rows of every piece of a file: `most` in all, and at least LEAST_OF_A_PIECE of each piece."""
    for piece in pieces:
        values = (row.value for row in PieceReader(piece, max_line_bytes=config.max_line_bytes))
        some = islice((value for value in values if value is not None), max(most // len(pieces), LEAST_OF_A_PIECE))
        yield from map(opened_row, some)
