"""Read CSV with any common delimiter: Excel writes `;` in half of Europe, and tabs as "Unicode text"."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import IO, Any

from hubdpo.data.converters.cells import BEGINS, MISSING
from hubdpo.data.pairs.literals import value_in
from hubdpo.data.pairs.messages import words_of
from hubdpo.data.raw.raw_file import HEAD_BYTES
from hubdpo.data.raw.rows import RawRow, check_column_names
from hubdpo.data.raw.text.encodings import not_utf8
from hubdpo.errors import DataError
from hubdpo.secrets import shown_name

DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
MEANT = frozenset(("None", "NA", "N/A", "n/a"))
"""Values of MISSING that an annotator may have meant: no preference."""
JUDGEMENTS = frozenset((
    "winner", "winning", "vote", "votes", "preference", "choice", "label", "labels", "verdict", "judgement", "judgment",
    "comparison", "annotation", "annotator", "rater",
))  # fmt: skip
"""Words in the names of columns with a vote or label."""
ANSWERS = frozenset(("response", "answer", "output", "completion", "text"))
"""Words in the names of columns with an answer, also one that won a vote."""
HELD = frozenset((
    "completions", "responses", "generations", "answers", "responses_and_scores", "scores", "ratings", "rating",
    "rewards", "ranks", "rank", "ranking", "preference", "comparison", "output", "contents", "history", "annotations",
    "data", "fields", "suggestions", "info", "summaries", "summary", "models", "systemInstruction",
))  # fmt: skip
"""Columns that published sets fill with lists or objects. A text in them that is one has lost its form to the CSV."""
WEBGPT = "full_text"
"""Member of WebGPT's questions; the texts of other questions may well be JSON."""
HELD_ENDINGS = (".responses", ".status", ".users", ".suggestion", "-suggestion")
"""Endings of Argilla's columns of this kind."""
NULL_TEXT = "null_text_in_"
"""Prefix of the counter of null texts, before the name of the column."""
OTHER_COLUMNS = "other_columns"
"""Stands for column names that cannot be shown."""
SAMPLES = 50
"""Records that show the form of a file."""
_DECLARED = "sep="
"""Excel may write the delimiter behind this, in a line before the header."""
_PLAIN_NAME = re.compile(r"[\w -]{1,40}")


@dataclass(frozen=True)
class Form:
    """How a delimited file is written."""

    delimiter: str
    spaced: bool
    """Whether a space follows each delimiter and belongs to no value."""
    header: list[str]
    records: list[list[str]]
    """The first records behind the header, without one that may be cut."""
    declared: bool
    """Whether a line before the header names the delimiter."""

    @property
    def names(self) -> list[str]:
        """Column names without spaces around them, unless two columns would then have the same name."""
        names = [name.strip() for name in self.header]
        return names if len(set(names)) == len(set(self.header)) else self.header

    @property
    def held(self) -> list[str]:
        """The columns that hold nothing but lists and objects in the first records, written as JSON or Python."""
        held = []
        for index, name in enumerate(self.names):
            usual = name in HELD or name.startswith("rating") or name.endswith(HELD_ENDINGS)
            cells = [cell for record in self.records for cell in record[index : index + 1]]
            values = [_held(cell) for cell in cells if cell and cell not in MISSING]
            if values and all(isinstance(value, (list, dict)) and (usual or WEBGPT in value) for value in values):
                held.append(name)
        return held


def delimiter_of(head: bytes, kind: str) -> str:
    """Return the delimiter that cuts the header into most columns; on a tie the usual one for the kind of file."""
    text = _text(head)
    if text.startswith(_DECLARED) and text[4:5] in DELIMITERS:
        return text[4]
    usual = "\t" if kind == ".tsv" else ","
    widths = {delimiter: len(_records(text, delimiter, most=1)[0]) for delimiter in (usual, *DELIMITERS)}
    return max(widths, key=lambda delimiter: widths[delimiter])


def has_equal_rows(head: bytes, kind: str) -> bool:
    """Return whether a text is a header with two or more columns, and rows with as many."""
    records = _complete(_records(_text(head), delimiter_of(head, kind), spaced=True), head)
    return len(records) > 1 and len(records[0]) > 1 and _have_equal_width(records)


def form_of(head: bytes, kind: str) -> Form:
    """Return the form of a file from its first HEAD_BYTES."""
    text, delimiter = _text(head), delimiter_of(head, kind)
    declared = text.startswith(_DECLARED)
    if declared:
        text = text.partition("\n")[2]
    plain, stripped = (_complete(_records(text, delimiter, spaced=spaced), head) for spaced in (False, True))
    header = plain[0]
    spaced = len(plain) > 1 and len(header) > 1 and all(name.startswith(" ") for name in header[1:])
    if spaced and not all(value.startswith(" ") for record in plain for value in record[1:]):
        spaced = _have_equal_width(stripped) and not _have_equal_width(plain)  # as with quotes behind the space
    header, *records = stripped if spaced else plain
    return Form(delimiter, spaced, header, records, declared)


def csv_rows(stream: IO[bytes], name: str, kind: str, most: int) -> Iterator[RawRow]:
    """Yield the rows of a CSV, each with the line on which it begins.

    A value of MISSING becomes None and is counted. In a column of votes or labels `None` and `N/A` stay text: they may
    be a tie, or what `--labels` makes of them. Raise DataError if the CSV is broken or not UTF-8.
    """
    head = stream.read(HEAD_BYTES)
    stream.seek(0)
    form = form_of(head, kind)
    with ExitStack() as stack, io.TextIOWrapper(stream, encoding="utf-8-sig", newline="") as text:
        stack.callback(csv.field_size_limit, csv.field_size_limit(most))  # of the process: put back at the end
        skipped = int(form.declared)  # lines before the header
        if form.declared:
            text.readline()
        table = csv.reader(text, strict=True, delimiter=form.delimiter, skipinitialspace=form.spaced)
        end = skipped  # last line of the record before
        try:
            form = replace(form, header=next(filter(None, table), []))
            names = form.names
            check_column_names(names, name)
            judgements = frozenset(column for column in names if _is_judgement(column))
            held = form.held
            end = table.line_num + skipped
            for values in table:
                line, end = end + 1, table.line_num + skipped
                if values:
                    row = _row(line, names, values, judgements)
                    if held and row.value is not None:
                        row = row._replace(value={**row.value, **{name: _held(row.value[name]) for name in held}})
                    yield row
        except UnicodeDecodeError:
            where = f", at line {table.line_num + skipped + 1} or soon after"
            raise not_utf8(name, head, where) from None
        except csv.Error as problem:
            raise DataError(
                f"the CSV is broken: {name}, in the row that begins on line {end + 1}: {problem}",
                hint='write a quote in a text as "", not as \\"' if b'\\"' in head else "save it as UTF-8 CSV again",
            ) from None


def _text(head: bytes) -> str:
    return head.decode("utf-8-sig", errors="replace")


def _held(cell: Any) -> Any:
    """Return the list or object that a cell holds, or the cell itself."""
    value = value_in(cell) if isinstance(cell, str) and BEGINS.match(cell) else None
    return value if isinstance(value, (list, dict)) else cell


def _is_judgement(column: str) -> bool:
    words = set(words_of(column))
    return not words.isdisjoint(JUDGEMENTS | {"tag"}) and words.isdisjoint(ANSWERS)


def _row(line: int, names: list[str], values: list[str], judgements: frozenset[str]) -> RawRow:
    if len(values) != len(names):
        extra = len(values) - len(names)
        width = f"{extra} values more" if extra > 0 else "fewer values"
        return RawRow(line, None, "malformed_line", 0, f"it has {width} than the header has columns")
    size = sum(map(len, values))
    if MISSING.isdisjoint(values):
        return RawRow(line, dict(zip(names, values, strict=True)), None, size)
    row = {
        name: None if value in MISSING and not (value in MEANT and name in judgements) else value
        for name, value in zip(names, values, strict=True)
    }
    null = [name if _PLAIN_NAME.fullmatch(name) else None for name in row if row[name] is None]
    repairs = dict.fromkeys(NULL_TEXT + (shown_name(name, scan=True) if name else OTHER_COLUMNS) for name in null)
    return RawRow(line, row, None, size, repairs=tuple(repairs))


def _records(text: str, delimiter: str, *, spaced: bool = False, most: int = SAMPLES) -> list[list[str]]:
    """Return the first records that are not blank, up to a broken one; at least one record, if need be an empty one."""
    records: list[list[str]] = []
    table = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=spaced)
    try:
        for record in table:
            records += [record] if record else []
            if len(records) >= most:
                break
    except csv.Error:
        pass
    return records or [[]]


def _complete(records: list[list[str]], head: bytes) -> list[list[str]]:
    return records[:-1] if len(head) >= HEAD_BYTES and len(records) > 2 else records


def _have_equal_width(records: list[list[str]]) -> bool:
    return {len(record) for record in records} == {len(records[0])}
