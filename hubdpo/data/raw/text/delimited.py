"""CSV, by whatever separates its columns: Excel writes `;` in half of Europe, and tabs as "Unicode text"."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

from hubdpo.data.converters.cells import MISSING
from hubdpo.data.pairs.messages import words_of
from hubdpo.data.raw.rows import RawRow
from hubdpo.data.raw.text.encodings import not_utf8
from hubdpo.errors import DataError
from hubdpo.secrets import shown_name

HEAD = 1 << 16
DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
SAID = frozenset(("None", "NA", "N/A", "n/a"))
"""Those of them that a person who judges answers may have meant: no preference."""
JUDGEMENTS = frozenset((
    "winner", "winning", "vote", "votes", "preference", "choice", "label", "labels", "verdict", "judgement", "judgment",
    "comparison", "annotation", "annotator", "rater",
))  # fmt: skip
ANSWERS = frozenset(("response", "answer", "output", "completion", "text"))
"""Words in the names of columns that hold a vote or a label, and those of an answer that won one."""
NULL_TEXT = "null_text_in_"
"""What such values are counted under, before the name of their column."""
OTHER_COLUMNS = "other_columns"
"""In place of names that cannot be shown."""
MOST_SAMPLES = 50
_DECLARED = "sep="
"""What Excel writes in a line before the header, with the delimiter behind it."""
_PLAIN_NAME = re.compile(r"[\w -]{1,40}")


@dataclass(frozen=True)
class Form:
    """How a file of columns is written. `spaced`: a space follows each delimiter, and is part of no value."""

    delimiter: str
    spaced: bool
    header: list[str]

    @property
    def names(self) -> list[str]:
        """The columns, without spaces around their names unless two would then have the same one."""
        names = [name.strip() for name in self.header]
        return names if len(set(names)) == len(set(self.header)) else self.header


def delimiter_of(head: bytes, kind: str) -> str:
    """Return what cuts the header into most columns; commas, or tabs in a .tsv, where two are equal."""
    text = head.decode("utf-8-sig", errors="replace")
    if text.startswith(_DECLARED) and text[4:5] in DELIMITERS:
        return text[4]
    usual = "\t" if kind == ".tsv" else ","
    widths = {mark: len(_records(text, mark, most=1)[0]) for mark in (usual, *DELIMITERS)}
    return max(widths, key=lambda mark: widths[mark])


def has_equal_rows(head: bytes, kind: str) -> bool:
    """Tell whether a text is a header and rows of as many columns, two or more."""
    text = head.decode("utf-8-sig", errors="replace")
    records = _records(text, delimiter_of(head, kind), spaced=True)
    records = records[:-1] if len(head) >= HEAD and len(records) > 2 else records
    return len(records) > 1 and len(records[0]) > 1 and _fits(records)


def form_of(head: bytes, kind: str) -> Form:
    """Tell how a file is written from its first bytes, HEAD of them where it has as many."""
    text, delimiter = head.decode("utf-8-sig", errors="replace"), delimiter_of(head, kind)
    if text.startswith(_DECLARED):
        text = text.partition("\n")[2]
    plain, closer = (_records(text, delimiter, spaced=spaced) for spaced in (False, True))
    if len(head) >= HEAD and len(plain) > 2:
        plain, closer = plain[:-1], closer[:-1]
    header = plain[0]
    spaced = len(plain) > 1 and len(header) > 1 and all(name.startswith(" ") for name in header[1:])
    if spaced and not all(value.startswith(" ") for record in plain for value in record[1:]):
        spaced = _fits(closer) and not _fits(plain)  # as with quotes behind the space
    return Form(delimiter, spaced, closer[0] if spaced else header)


def csv_rows(stream: IO[bytes], name: str, kind: str, most: int, typed: str) -> Iterator[RawRow]:
    """Give the rows of a CSV, each with the line it begins on; a value of MISSING is None, and counted.

    In a column of votes or labels `None` and `N/A` stay what was said: a tie, or what `--labels` makes of it.
    Raise DataError when the CSV is broken or not UTF-8.
    """
    csv.field_size_limit(most)
    head = stream.read(HEAD)
    stream.seek(0)
    form = form_of(head, kind)
    with io.TextIOWrapper(stream, encoding="utf-8-sig", newline="") as text:
        end = 0
        if head.decode("utf-8-sig", errors="replace").startswith(_DECLARED):
            text.readline()
            end = 1
        table = csv.reader(text, strict=True, delimiter=form.delimiter, skipinitialspace=form.spaced)
        before = end
        try:
            names = Form(form.delimiter, form.spaced, next(filter(None, table), [])).names
            if twice := [column for column, count in Counter(names).items() if count > 1 and column]:
                raise DataError(
                    f"{name} has two columns `{twice[0]}`", hint="give each a name of its own in its header"
                )
            judging = frozenset(name for name in names if _judges(name))
            end = table.line_num + before
            for values in table:
                line, end = end + 1, table.line_num + before
                if values:
                    yield _row(line, names, values, judging)
        except UnicodeDecodeError:
            raise not_utf8(name, head, f", at line {table.line_num + before + 1} or soon after", typed=typed) from None
        except csv.Error as problem:
            raise DataError(
                f"the CSV is broken: {name}, in the row that begins on line {end + 1}: {problem}",
                hint='write a quote in a text as "", not as \\"' if b'\\"' in head else "save it as UTF-8 CSV again",
            ) from None


def _judges(name: str) -> bool:
    words = {word.rstrip("0123456789") for word in words_of(name)}
    return not words.isdisjoint(JUDGEMENTS | {"tag"}) and words.isdisjoint(ANSWERS)


def _row(line: int, names: list[str], values: list[str], judging: frozenset[str]) -> RawRow:
    if len(values) != len(names):
        extra = len(values) - len(names)
        more = f"{extra} values more" if extra > 0 else "fewer values"
        return RawRow(line, None, "malformed_line", 0, f"it has {more} than the header has columns")
    size = sum(map(len, values))
    if MISSING.isdisjoint(values):
        return RawRow(line, dict(zip(names, values, strict=True)), None, size)
    row = {
        name: None if value in MISSING and not (value in SAID and name in judging) else value
        for name, value in zip(names, values, strict=True)
    }
    repairs = dict.fromkeys(_null_text(name) for name in row if row[name] is None)
    return RawRow(line, row, None, size, repairs=tuple(repairs))


def _null_text(name: str) -> str:
    return NULL_TEXT + (shown_name(name, scan=True) if _PLAIN_NAME.fullmatch(name) else OTHER_COLUMNS)


def _records(text: str, delimiter: str, *, spaced: bool = False, most: int = MOST_SAMPLES) -> list[list[str]]:
    """Return the first records that are not blank, at least one; those before a broken one where there is one."""
    found: list[list[str]] = []
    table = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=spaced)
    try:
        for record in table:
            found += [record] if record else []
            if len(found) >= most:
                break
    except csv.Error:
        pass
    return found or [[]]


def _fits(records: list[list[str]]) -> bool:
    return {len(record) for record in records} == {len(records[0])}
