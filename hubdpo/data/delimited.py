"""CSV, by whatever separates its columns: Excel writes `;` in half of Europe, and tabs as "Unicode text"."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator
from typing import IO

from hubdpo.data.encodings import not_utf8
from hubdpo.data.raw import RawRow
from hubdpo.errors import DataError

HEAD = 1 << 16
DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_DECLARED = "sep="
"""What Excel writes in a line before the header, with the delimiter behind it."""


def delimiter_of(head: bytes, kind: str) -> str:
    """Return what cuts the header into most columns; commas, or tabs in a .tsv, where two are equal."""
    text = head.decode("utf-8-sig", errors="replace")
    if text.startswith(_DECLARED) and text[4:5] in DELIMITERS:
        return text[4]
    usual = "\t" if kind == ".tsv" else ","
    widths = {mark: _width(text, mark) for mark in (usual, *DELIMITERS)}
    return max(widths, key=lambda mark: widths[mark])


def csv_rows(stream: IO[bytes], name: str, kind: str, most: int) -> Iterator[RawRow]:
    """Give the rows of a CSV, each with the line it ends on. Raise DataError when it is broken or not UTF-8."""
    csv.field_size_limit(most)
    head = stream.read(HEAD)
    stream.seek(0)
    with io.TextIOWrapper(stream, encoding="utf-8-sig", newline="") as text:
        before = 0
        if head.decode("utf-8-sig", errors="replace").startswith(_DECLARED):
            text.readline()
            before = 1
        table = csv.DictReader(text, strict=True, delimiter=delimiter_of(head, kind))
        try:
            if twice := [column for column, count in Counter(table.fieldnames or ()).items() if count > 1 and column]:
                raise DataError(
                    f"{name} has two columns `{twice[0]}`", hint="give each a name of its own in its header"
                )
            for row in table:
                line = table.line_num + before
                if None not in row and None not in row.values():
                    yield RawRow(line, row, None, sum(map(len, row.values())))
                else:
                    extra = len(row.get(None) or [])  # where DictReader puts them
                    more = f"{extra} values more" if extra else "fewer values"
                    yield RawRow(line, None, "malformed_line", 0, f"it has {more} than the header has columns")
        except UnicodeDecodeError:
            raise not_utf8(name, head, f", at line {table.line_num + before + 1} or soon after") from None
        except csv.Error as problem:
            raise DataError(
                f"the CSV is broken: {name}, line {table.line_num + before}: {problem}",
                hint="save it as UTF-8 CSV again",
            ) from None


def _width(text: str, delimiter: str) -> int:
    try:
        return len(next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter), []))
    except csv.Error:
        return 0
