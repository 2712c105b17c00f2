"""From a piece of a plain file to rows, each with its line.

JSON is parsed a row at a time with orjson before Arrow sees it: Arrow's own JSON reader crashes on deep nesting and
guesses types from the first block.
"""

from __future__ import annotations

import bisect
import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any, NamedTuple

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from hubdpo.data import storage
from hubdpo.data.published import Split, split_of
from hubdpo.data.sources import RawFile
from hubdpo.errors import DataError

PIECE_BYTES = 16 * 2**20
"""Part of a file that one task reads. The output does not depend on how many work, only on this."""
BOM = b"\xef\xbb\xbf"
BLOCK = 1 << 20
Line = bytes | memoryview
_END = ord("\n")
_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"|[\[\]{},"]', re.DOTALL)


@dataclass(frozen=True)
class Piece:
    """Bytes `start` to `stop` of a file of lines, or row groups of a Parquet file, or (0, 0) for all of a file."""

    file: RawFile
    start: int
    stop: int
    key: str | None = None
    """The key that the list of rows stands under, in a JSON file that holds lists."""

    @property
    def split(self) -> Split | None:
        """The split that these rows were published in, where the key or the name of the file tells."""
        return (split_of(self.key) if self.key else None) or self.file.split


class RawRow(NamedTuple):
    """A row and where it stands: `line` counts from 1 within the piece, lines of text or rows of a table or array.

    `value` is None for what could not be parsed, and `problem` then is its reason code. `size` is in bytes.
    """

    line: int
    value: dict[str, Any] | None
    problem: str | None
    size: int


class Block(NamedTuple):
    """Rows that were read at once: those that are objects, with their lines, and the others as RawRow.

    `size` is in bytes, of all rows together.
    """

    lines: Sequence[int]
    values: list[dict[str, Any]]
    broken: list[RawRow]
    size: int


def cut(file: RawFile) -> list[Piece]:
    """Return the pieces of a file, in order. Raise DataError when it is no Parquet file though it is called so."""
    if file.kind == ".parquet":
        with _Parquet(file) as table:
            return [Piece(file, group, group + 1) for group in range(table.num_row_groups)]
    if file.kind == ".csv" or _is_array(file):
        return [Piece(file, 0, 0)]
    size = storage.size_of(file.path)
    return [Piece(file, start, min(start + PIECE_BYTES, size)) for start in range(0, size, PIECE_BYTES)]


class PieceReader:
    """Read the rows of a piece; `lines` then is how many lines it had, blank ones included.

    Blank lines are no rows. Raise DataError when the file itself is broken.
    """

    def __init__(self, piece: Piece, *, max_line_bytes: int) -> None:
        self.lines = 0
        self._piece = piece
        self._most = max_line_bytes

    def __iter__(self) -> Iterator[RawRow]:
        """Give the rows one by one."""
        for block in self.blocks():
            share = block.size // max(len(block.lines) + len(block.broken), 1)
            good = [RawRow(line, value, None, share) for line, value in zip(block.lines, block.values, strict=True)]
            yield from sorted([*good, *block.broken], key=lambda row: row.line)

    def blocks(self) -> Iterator[Block]:
        """Give the rows many at a time."""
        kind = self._piece.file.kind
        if kind == ".parquet":
            return self._parquet_blocks()
        if kind == ".csv":
            return _in_blocks(self._csv_rows())
        return _in_blocks(self._array_rows()) if self._piece.stop == 0 else self._line_blocks()

    def _line_blocks(self) -> Iterator[Block]:
        for lines in _lines(self._piece, self._most):
            size = sum(map(len, filter(None, lines)))
            first = self.lines + 1
            self.lines += len(lines)
            try:
                values = list(map(orjson.loads, lines))  # type: ignore[arg-type]  # None is caught below
            except orjson.JSONDecodeError:
                values = []
            if values and set(map(type, values)) == {dict}:
                yield Block(range(first, first + len(values)), values, [], size)
            else:
                yield from _in_blocks(_rows(lines, first, self._most))

    def _array_rows(self) -> Iterator[RawRow]:
        with storage.open_read(self._piece.file.path) as stream:
            for text in _array_items(stream, self._piece.file.name, self._most):
                self.lines += 1
                try:
                    value = orjson.loads(text)
                except orjson.JSONDecodeError:
                    yield RawRow(self.lines, None, "malformed_line", len(text))
                    continue
                good = type(value) is dict
                yield RawRow(self.lines, value if good else None, None if good else "not_an_object", len(text))

    def _csv_rows(self) -> Iterator[RawRow]:
        csv.field_size_limit(self._most)
        name = self._piece.file.name
        stream = storage.open_read(self._piece.file.path)
        with io.TextIOWrapper(stream, encoding="utf-8-sig", newline="") as text:
            table = csv.DictReader(text, strict=True)
            try:
                for row in table:
                    self.lines = table.line_num
                    whole = None not in row and None not in row.values()
                    size = sum(map(len, row.values())) if whole else 0
                    yield RawRow(self.lines, row if whole else None, None if whole else "malformed_line", size)
            except (csv.Error, UnicodeDecodeError) as problem:
                raise DataError(
                    f"the CSV is broken: {name}, line {table.line_num}: {problem}", hint="save it as UTF-8 CSV again"
                ) from None

    def _parquet_blocks(self) -> Iterator[Block]:
        with _Parquet(self._piece.file) as table:
            for batch in table.iter_batches(batch_size=1024, row_groups=range(self._piece.start, self._piece.stop)):
                lines = range(self.lines + 1, self.lines + 1 + batch.num_rows)
                self.lines += batch.num_rows
                yield Block(lines, batch.to_pylist(), [], batch.nbytes)


def _rows(lines: list[Line | None], first: int, most: int) -> Iterator[RawRow]:
    """Parse lines each for itself, `first` the number of the first; None is one that is too long."""
    for number, line in enumerate(lines, first):
        if line is None:
            yield RawRow(number, None, "line_too_long", most)
            continue
        if not line or bytes(line).isspace():
            continue
        try:
            value = orjson.loads(line)
        except orjson.JSONDecodeError:
            yield RawRow(number, None, "malformed_line", len(line))
            continue
        good = type(value) is dict
        yield RawRow(number, value if good else None, None if good else "not_an_object", len(line))


def _in_blocks(rows: Iterable[RawRow]) -> Iterator[Block]:
    """Put rows together until they have BLOCK bytes."""
    block = Block([], [], [], 0)
    for row in rows:
        if row.value is None:
            block.broken.append(row)
        else:
            block.lines.append(row.line)  # type: ignore[attr-defined]  # a list here
            block.values.append(row.value)
        block = block._replace(size=block.size + row.size)
        if block.size >= BLOCK:
            yield block
            block = Block([], [], [], 0)
    if block.values or block.broken:
        yield block


def _lines(piece: Piece, most: int) -> Iterator[list[Line | None]]:
    """Give the lines that begin in a piece, without their ends, many at a time; None for one above `most` bytes.

    What was given is written over when more is asked for.
    """
    with storage.open_read(piece.file.path) as stream:
        at = _first_line(stream, piece)
        if at >= piece.stop:
            return
        at += len(BOM) if at == 0 and stream.read(len(BOM)) == BOM else 0
        stream.seek(at)
        begun: list[bytes] = []  # blocks of the line that has not ended; none once it is too long
        size = 0
        buffer = memoryview(bytearray(BLOCK))
        while count := stream.readinto(buffer):  # type: ignore[attr-defined]  # files of bytes have it
            block = buffer[:count]
            ends = np.flatnonzero(np.frombuffer(block, np.uint8) == _END).tolist()
            # a line is one of this piece when it begins in it
            own = bisect.bisect_left(ends, piece.stop - 1 - at)
            at += count
            size += ends[0] if ends else count
            begun = [*begun, bytes(block[: ends[0] if ends else count])] if size <= most else []
            if not ends:
                continue
            # a view costs more than all else that is done for an empty line
            spans = zip(ends[:own], ends[1:], strict=False)
            more = [block[start + 1 : stop] if stop - start > 1 else b"" for start, stop in spans]
            short = count <= most
            yield [
                b"".join(begun) if size <= most else None,
                *(more if short else (line if len(line) <= most else None for line in more)),
            ]
            if own < len(ends):
                return
            size = count - ends[-1] - 1
            begun = [bytes(block[ends[-1] + 1 :])] if size <= most else []
        if size:
            yield [b"".join(begun) if size <= most else None]


def _first_line(stream: IO[bytes], piece: Piece) -> int:
    """Return where the first line of a piece begins, or its stop; a line that began before is not one of its own."""
    if piece.start == 0:
        return 0
    at = piece.start - 1
    stream.seek(at)
    while at < piece.stop and (part := stream.readline(BLOCK)):
        at += len(part)
        if part.endswith(b"\n"):
            return at
    return piece.stop


def _is_array(file: RawFile) -> bool:
    if file.kind != ".json":
        return False
    with storage.open_read(file.path) as stream:
        return stream.read(1 << 16).removeprefix(BOM).lstrip().startswith(b"[")


def _array_items(stream: IO[bytes], name: str, most: int) -> Iterator[bytes]:
    """Cut a JSON array into the text of its items, in a memory of one item. orjson then judges each."""
    buffer, begin, scanned, depth, items, closed = b"", 0, 0, 0, 0, False
    while not closed and (block := _up_to_a_quote(stream, buffer[scanned : scanned + 1] == b'"', most)):
        buffer, scanned, begin = buffer[begin:] + block, scanned - begin, 0
        for token in _TOKEN.finditer(buffer, scanned):
            mark = token[0]
            if mark == b'"':  # a text whose end is not here yet
                scanned = token.start()
                break
            scanned = token.end()
            if depth == 1 and mark in (b",", b"]"):
                if text := buffer[begin : token.start()].strip():
                    items += 1
                    yield text
                begin = scanned
            if mark in (b"[", b"{"):
                depth += 1
                begin = scanned if depth == 1 else begin
            elif mark in (b"]", b"}"):
                depth -= 1
                if closed := depth == 0:
                    break
        if depth == 0:
            begin = len(buffer)
        if len(buffer) - begin > most:
            raise DataError(
                f"item {items + 1} of the array has more than {most:,} bytes: {name}",
                hint="write a row a line, as .jsonl",
            )
    if not closed or buffer[scanned:].strip() or stream.read(1 << 16).strip():
        raise DataError(
            f"the file is no JSON array: {name}, {'text after its end' if closed else 'it ends'} after item {items}",
            hint="mend it, or write one object a line and call it .jsonl",
        )


def _up_to_a_quote(stream: IO[bytes], in_text: bool, most: int) -> bytes:
    """Read a block; inside a text, all up to a quote, so that a long text is not searched again at each block."""
    blocks = [stream.read(BLOCK)]
    while in_text and blocks[-1] and b'"' not in blocks[-1] and len(blocks) * BLOCK <= most:
        blocks.append(stream.read(BLOCK))
    return b"".join(blocks)


class _Parquet:
    """A Parquet file whose faults become a DataError that names it."""

    def __init__(self, file: RawFile) -> None:
        self._file = file

    def __enter__(self) -> pq.ParquetFile:
        self._stream = storage.open_read(self._file.path)
        try:
            return pq.ParquetFile(self._stream)
        except (pa.ArrowException, OSError) as problem:
            self._stream.close()
            raise self._explained(problem) from None

    def __exit__(self, kind: type[BaseException] | None, problem: BaseException | None, trace: object) -> None:
        self._stream.close()
        if isinstance(problem, (pa.ArrowException, OSError, UnicodeDecodeError)):
            raise self._explained(problem) from None

    def _explained(self, problem: BaseException) -> DataError:
        first = str(problem).splitlines()[0] if str(problem) else type(problem).__name__
        return DataError(f"the Parquet file is broken: {self._file.name}: {first}", hint="write or download it again")
