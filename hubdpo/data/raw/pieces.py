"""Cut files into the pieces that tasks read, and read the rows of a piece."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import partial

from hubdpo import console
from hubdpo.artefacts.folders import storage
from hubdpo.data.raw.inner_rows import inner_rows
from hubdpo.data.raw.raw_file import DELIMITED, RawFile
from hubdpo.data.raw.rows import Block, RawRow, in_blocks
from hubdpo.data.raw.split_names import Split, split_of
from hubdpo.data.raw.tables import arrow_blocks, parquet_blocks, row_groups
from hubdpo.data.raw.text.delimited import DELIMITERS, csv_rows, form_of
from hubdpo.data.raw.text.json_layout import CUT, PAGE_ROW, Layout, json_layout, whole_text
from hubdpo.data.raw.text.json_lines import line_blocks, parse, too_long
from hubdpo.data.raw.text.json_lists import list_items
from hubdpo.data.raw.text.json_tables import table_rows
from hubdpo.secrets import shown_name

PIECE_BYTES = 16 * 2**20
"""Bytes of a text file that one task reads. The output depends on this, but not on the number of workers."""
MOST_LINE_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Piece:
    """A part of a file: bytes `start` to `stop` of lines, row groups of a Parquet file, or (0, 0) for all of it."""

    file: RawFile
    start: int
    stop: int
    key: str | None = None
    """The key of the list of rows, in a JSON file with lists; how a table is written, in a JSON file that is one."""
    layout: Layout = Layout.LINES
    rows: str | None = None
    """The dotted path to the list of rows inside each row, or inside the one object of a file."""

    @property
    def split(self) -> Split | None:
        """The split in which the rows were published, if the key or the file's name says it."""
        return (split_of(self.key) if self.key else None) or self.file.split


def cut(
    file: RawFile, *, max_line_bytes: int = MOST_LINE_BYTES, rows: str | None = None, columns: Collection[str] = ()
) -> list[Piece]:
    """Return the pieces of a file, in order. Raise DataError if it is broken, or its rows cannot be found.

    `rows` is the dotted path to the rows, if they are in a list: inside the one object of a JSON file, else inside
    each row, whose other columns then stand beside each item of its list. `columns` are those that the rows have, if
    they are described: an object with all of them is a row, whatever lists it holds.
    """
    rows = rows and rows.removesuffix("[]")
    piece = partial(Piece, file, rows=rows)
    if file.kind == ".parquet":
        return [piece(group, group + 1) for group in range(row_groups(file.path, file.name))]
    if file.kind in DELIMITED:
        _report_form(file)
    if file.kind in DELIMITED or file.kind == ".arrow":
        return [piece(0, 0)]
    layout, keys = json_layout(file, max_line_bytes, rows, columns)
    if layout is not Layout.LINES:
        return [piece(0, 0, key, layout) for key in keys or (None,)]
    size = storage.size_of(file.path)
    return [piece(start, min(start + PIECE_BYTES, size)) for start in range(0, size, PIECE_BYTES)]


class PieceReader:
    """Read the rows of a piece, one by one or in blocks. Blank lines are not rows.

    Afterwards `lines` is the number of lines, blank ones included, and `repaired` counts repaired rows by repair. Raise
    DataError if the file itself is broken.
    """

    def __init__(self, piece: Piece, *, max_line_bytes: int) -> None:
        self.lines = 0
        self.repaired: Counter[str] = Counter()
        self._piece = piece
        self._most = max_line_bytes

    def __iter__(self) -> Iterator[RawRow]:
        for block in self.blocks():
            share = block.size // max(len(block.lines) + len(block.broken), 1)
            good = [RawRow(line, value, None, share) for line, value in zip(block.lines, block.values, strict=True)]
            yield from sorted([*good, *block.broken], key=lambda row: row.line)

    def blocks(self) -> Iterator[Block]:
        blocks = self._blocks()
        if (path := self._piece.rows) is not None:
            blocks = inner_rows(blocks, path, one_object=self._piece.layout is Layout.OBJECT)
        for block in blocks:
            self.repaired.update(block.repaired)
            yield block

    def _blocks(self) -> Iterator[Block]:
        file, piece = self._piece.file, self._piece
        if file.kind == ".parquet":
            yield from self._counted(parquet_blocks(file.path, file.name, piece.start))
        elif file.kind == ".arrow":
            yield from self._counted(arrow_blocks(file.path, file.name))
        elif file.kind in DELIMITED:
            with storage.open_read(file.path) as stream:
                yield from self._counted(in_blocks(csv_rows(stream, file.name, file.kind, self._most)))
        elif piece.layout is Layout.OBJECT:
            yield from self._counted(in_blocks([parse(1, whole_text(file))]))
        elif piece.layout is Layout.TABLE:
            yield from self._counted(in_blocks(_rows_of_table(parse(1, whole_text(file)), piece.key or "")))
        elif piece.layout is Layout.LINES:
            with storage.open_read(file.path) as stream:
                for count, blocks in line_blocks(stream, piece.start, piece.stop, self._most):
                    self.lines += count
                    yield from blocks
        else:
            yield from self._counted(in_blocks(self._items()))

    def _items(self) -> Iterator[RawRow]:
        piece, line = self._piece, 0
        with storage.open_read(piece.file.path) as stream:
            for key, text in list_items(stream, piece.file.name, self._most):
                if key == piece.key:
                    line += 1
                    row = too_long(line, self._most) if len(text) > self._most else parse(line, text)
                    yield _row_of_item(row) if piece.layout is Layout.PAGE else row

    def _counted(self, blocks: Iterator[Block]) -> Iterator[Block]:
        for block in blocks:
            self.lines = max([self.lines, *block.lines[-1:], *(row.line for row in block.broken[-1:])])
            yield block


def _row_of_item(item: RawRow) -> RawRow:
    """Return the row inside an item of the Hub's rows API; a row with cells that the API cut is dropped."""
    if item.value is None:
        return item
    if cells := item.value.get(CUT):
        names = [shown_name(str(name), scan=True) for name in cells] if isinstance(cells, list) else ["some cells"]
        return RawRow(item.line, None, CUT, item.size, f"the Hub's API cut {', '.join(names)}")
    return item._replace(value=item.value[PAGE_ROW])


def _rows_of_table(table: RawRow, orient: str) -> Iterator[RawRow]:
    """Yield the rows of a table that is one object; a row of another length than the header is broken."""
    rows = table_rows(table.value or {}, orient)
    for line, row in enumerate(rows, 1):
        size = table.size // len(rows)
        if isinstance(row, dict):
            yield RawRow(line, row, None, size, repairs=table.repairs if line == 1 else ())
        else:
            yield RawRow(line, None, "malformed_line", size, "it has other values than the table has columns")


def _report_form(file: RawFile) -> None:
    form = form_of(file.head(), file.kind)
    delimiters = DELIMITERS[form.delimiter]
    if form.delimiter != ("\t" if file.kind == ".tsv" else ","):
        console.info(f"{file.name}: the columns are separated by {delimiters}")
    if form.spaced:
        console.info(f"{file.name}: the space behind each {delimiters[:-1]} is part of no value")
    if held := form.held:
        columns = console.listed(f"`{shown_name(column, scan=True)}`" for column in held)
        console.info(f"{file.name}: {columns} hold lists or objects, written as text: these are read")
    if form.names != form.header:
        console.info(f"{file.name}: spaces around the names of its columns are left out")


__all__ = ["Block", "Piece", "PieceReader", "RawRow", "cut"]
