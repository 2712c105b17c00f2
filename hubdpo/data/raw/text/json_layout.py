"""Tell from the content of a JSON file where its rows are; the endings .json and .jsonl are used interchangeably."""

from __future__ import annotations

import shlex
from collections.abc import Collection
from enum import StrEnum
from pathlib import Path
from typing import IO

import orjson

from hubdpo import console
from hubdpo.artefacts.folders import storage
from hubdpo.data.converters import Row
from hubdpo.data.converters.places import json_in
from hubdpo.data.raw.inner_rows import find_path
from hubdpo.data.raw.raw_file import HEAD_BYTES, RawFile
from hubdpo.data.raw.rows import BLOCK, BOM
from hubdpo.data.raw.split_names import split_of
from hubdpo.data.raw.text.encodings import is_utf8, not_utf8
from hubdpo.data.raw.text.json_lines import where_malformed, without_constants
from hubdpo.data.raw.text.json_lists import object_lists
from hubdpo.data.raw.text.json_tables import WRITTEN_BY, is_row, orient_of, table_rows
from hubdpo.errors import DataError

MOST_NAMES = 12
MOST_DEPTH = 4
PAGE_ROWS, PAGE_ROW, CUT = "rows", "row", "truncated_cells"
"""Members of an answer of the Hub's rows API, and of its items; CUT names the cells that the Hub cut."""
MESSAGE = ({"role", "content"}, {"from", "value"})
"""Members of an object that is a message of a row, not a row."""


class Layout(StrEnum):
    LINES = "lines"
    ARRAY = "array"
    OBJECT = "object"
    """The whole file is one row."""
    LISTS = "lists"
    """The rows are in lists that are members of one object."""
    TABLE = "table"
    """The whole file is a table, written by columns or by keys."""
    PAGE = "page"
    """An answer of the Hub's rows API (datasets-server): each item of its list `rows` holds a row."""


def json_layout(
    file: RawFile, most: int, rows: str | None = None, columns: Collection[str] = ()
) -> tuple[Layout, list[str]]:
    """Return the layout of a JSON file, and the keys of its lists of rows, or how its table is written.

    With `rows`, the path to a list inside each row, a .jsonl file of one line is a line and no object. An object with
    all `columns` of a described row is a row. Raise DataError if the file is not JSON or not UTF-8, or if its rows
    cannot be found.
    """
    with storage.open_read(file.path) as stream:
        head = stream.read(HEAD_BYTES)
        whole = len(head) < HEAD_BYTES
        text = head.removeprefix(BOM).lstrip()
        start = text[:64].lower()
        if start.startswith(b"version https://git-lfs"):
            raise DataError(f"{file.name} is a pointer of Git LFS, not the data", hint="git lfs pull")
        if start.startswith((b"<!doctype html", b"<html")):
            hint = "download the file itself, signed in where needed"
            raise DataError(f"{file.name} is a web page, not data", hint=hint)
        # a few broken rows are dropped later; half of the objects, or all of several that are not ASCII, are another
        # encoding
        objects = [part for part in text.split(b"}")[:-1] if part.strip()]
        broken = sum(not is_utf8(part) for part in objects)
        if 2 * broken > len(objects) or 1 < broken == sum(not part.isascii() for part in objects):
            raise not_utf8(file.name, text)
        text = without_constants(text.decode(errors="replace").encode())
        if text.startswith(b"["):
            return (Layout.ARRAY if _is_array(text, whole=whole) else Layout.LINES), []
        if not text.startswith(b"{"):
            return Layout.LINES, []
        stream.seek(0)
        alone = _first_line_alone(stream, most)
        if not (_is_one_value(text, file, whole=whole) if alone is None else alone):
            return Layout.LINES, []
    if rows is None:
        return _object_layout(file, most, columns)
    if alone and file.kind != ".json":
        return Layout.LINES, []
    _check_path(file, most, rows)
    return Layout.OBJECT, []


def whole_text(file: RawFile) -> bytes:
    """Return the content of a file without its byte order mark."""
    with storage.open_read(file.path) as stream:
        return stream.read().removeprefix(BOM)


def _is_array(text: bytes, *, whole: bool) -> bool:
    """Return whether a text that begins with `[` is one array, not lines of which the first is an array."""
    lines = text.split(b"\n")
    if not whole and len(lines) > 1:
        lines.pop()
    rest = [line for line in lines[1:] if line.strip()]
    if isinstance(json_in(lines[0]), list):
        return not rest
    # JSON Lines have objects on consecutive lines, without the commas of an array.
    objects = [isinstance(json_in(line), dict) for line in rest]
    return not any(one and other for one, other in zip(objects, objects[1:], strict=False))


def _first_line_alone(stream: IO[bytes], most: int) -> bool | None:
    """Return whether nothing follows the first line, or None if that line is neither an object nor too long for one."""
    line = b"\n"
    while line.isspace():
        line = stream.readline(most + 1)
    if len(line) > most or isinstance(json_in(line.removeprefix(BOM)), dict):
        while not line.endswith(b"\n") and (line := stream.readline(BLOCK)):
            pass
        return not any(block.strip() for block in iter(lambda: stream.read(BLOCK), b""))
    return None


def _is_one_value(text: bytes, file: RawFile, *, whole: bool) -> bool:
    """Return whether a text, or the beginning of one, is one JSON value on several lines."""
    lines = [line for line in text.split(b"\n") if line.strip()]
    if len(lines) < 2 or (whole and 2 * sum(isinstance(json_in(line), dict) for line in lines) >= len(lines)):
        return False
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError as problem:
        before = problem.doc[: problem.pos]
        if "\n" in before.strip() and isinstance(json_in(before.encode()), dict):
            raise DataError(
                f"{file.name} has objects of several lines each, one after another",
                hint=f"jq -c . {shlex.quote(file.typed)} > {Path(file.name).stem}-lines.jsonl",
            ) from None
        return problem.pos >= len(problem.doc)
    return True


def _object_layout(file: RawFile, most: int, columns: Collection[str]) -> tuple[Layout, list[str]]:
    """Return whether a file that is one JSON object is a row, holds lists of rows, or is a page of the Hub's API."""
    if storage.size_of(file.path) <= most:
        value = _whole_object(file)
        if orient := orient_of(value, columns):
            rows = len(table_rows(value, orient))
            console.info(f"{file.name}: the rows are the {rows:,} of a table that is written by {WRITTEN_BY[orient]}")
            return Layout.TABLE, [orient]
        if is_page(value):
            _report_page(file, value)
            return Layout.PAGE, [PAGE_ROWS]
        if is_row(value, columns):
            return Layout.OBJECT, []
        lists = {key: len(items) for key, items in value.items() if _is_rows(items)}
        if not lists:
            if deep := [path for key in value for path in _deep_lists(value[key], [key])]:
                raise _several_lists(f"the rows of {file.name} are nested deeper than hubdpo looks", deep)
            return Layout.OBJECT, []
    else:
        with storage.open_read(file.path) as stream:
            lists = object_lists(stream, file.name, most)
        if not lists:
            raise DataError(
                f"{file.name} is one JSON object of more than {most:,} bytes without a list of objects",
                hint=f"--max-line-bytes {storage.size_of(file.path)}",
            )
    if len(lists) > 1 and not all(map(split_of, lists)):
        named = ", ".join(f"`{key}` ({count:,})" for key, count in lists.items())
        raise _several_lists(f"{file.name} holds several lists of objects: {named}", [[key] for key in lists])
    for key, count in lists.items():
        console.info(f"{file.name}: the rows are the {count:,} objects under `{key}`")
    return Layout.LISTS, list(lists)


def _whole_object(file: RawFile) -> Row:
    try:
        value: Row = orjson.loads(without_constants(whole_text(file)))
    except orjson.JSONDecodeError as problem:
        message = f"the file is not JSON: {file.name}: {where_malformed(problem)}"
        raise DataError(message, hint="write one row per line") from None
    return value


def _check_path(file: RawFile, most: int, path: str) -> None:
    """Raise DataError unless a path leads to a list in a file that is one JSON object."""
    if (size := storage.size_of(file.path)) > most:
        raise DataError(f"{file.name} is one JSON object of {size:,} bytes", hint=f"--max-line-bytes {size}")
    value = _whole_object(file)
    if not isinstance(find_path(value, path)[1], list):
        raise _several_lists(f"{file.name} has no list at `{path}`", _deep_lists(value, []))


def is_page(value: Row) -> bool:
    """Return whether an object is `{"features": [...], "rows": [{"row_idx": 0, "row": {...}, ...}]}`."""
    items = value.get(PAGE_ROWS)
    if not isinstance(value.get("features"), list) or not isinstance(items, list) or not items:
        return False
    return all(isinstance(item, dict) and isinstance(item.get(PAGE_ROW), dict) for item in items)


def _report_page(file: RawFile, value: Row) -> None:
    count, total = len(value[PAGE_ROWS]), value.get("num_rows_total")
    console.info(f"{file.name}: the rows are the {count:,} that the Hub's API gave")
    if (isinstance(total, int) and total > count) or value.get("truncated") is True:
        of = f" of {total:,}" if isinstance(total, int) else ""
        console.warn(
            f"{file.name} holds {count:,}{of} rows of its dataset; `hf://datasets/USER/NAME` reads all of them"
        )


def _is_rows(value: object) -> bool:
    """Return whether a value is a list, mostly of objects, that are not messages."""
    objects = [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
    mostly = isinstance(value, list) and 2 * len(objects) > len(value)
    return mostly and not any(members <= objects[0].keys() for members in MESSAGE)


def _deep_lists(value: object, path: list[str]) -> list[list[str]]:
    if not isinstance(value, dict) or len(path) > MOST_DEPTH:
        return []
    return [
        found
        for key, member in value.items()
        for found in ([[*path, key]] if _is_rows(member) else _deep_lists(member, [*path, key]))
    ]


def _several_lists(message: str, paths: list[list[str]]) -> DataError:
    options = [f"--rows {shlex.quote('.'.join(path))}" for path in paths[:MOST_NAMES]]
    return DataError(message, hint=" or ".join(options) or "leave `--rows` out")
