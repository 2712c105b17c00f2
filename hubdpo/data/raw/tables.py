"""Read Parquet and Arrow files. Faults of a file become a DataError that names it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from hubdpo.artefacts.folders import storage
from hubdpo.data.pairs.example import Row
from hubdpo.data.raw.expansion import Budget, check_footer, parquet_batches, rows_within, unpacked_sizes
from hubdpo.data.raw.rows import Block, check_column_names
from hubdpo.errors import DataError
from hubdpo.hub.failures import first_line

ROWS = 1024
BLOCK_BYTES = 16 * 2**20
"""Bytes from which on a block gets fewer rows."""
MOST_IN_MEMORY = 64 * 2**20
"""Bytes of the largest Arrow batch for which the file is read instead of mapped."""
CALLS = frozenset(("tools", "functions", "tool_calls", "function_call"))
"""Columns and members with tools or calls, whose members differ from one to the next."""
_FILE_MAGIC = b"ARROW1"
"""First bytes of an Arrow file. Arrow streams, which `datasets.save_to_disk` writes, have no such mark."""


def row_groups(path: str, name: str) -> int:
    """Return the number of row groups of a Parquet file. Raise DataError if it unpacks to too much."""
    with _parquet(path, name) as table:
        check_footer(table.metadata, storage.size_of(path), name)
        _check_names(table.schema_arrow, name)
        return int(table.num_row_groups)


def column_names(path: str, name: str) -> list[str]:
    """Return the names of the columns of a table."""
    if path.lower().endswith(".parquet"):
        with _parquet(path, name) as table:
            return list(table.schema_arrow.names)
    with _named_errors("Arrow", name), storage.map_arrow(path) as source:
        return list((pa.ipc.open_file(source) if _is_arrow_file(path) else pa.ipc.open_stream(source)).schema.names)


def parquet_blocks(path: str, name: str, group: int) -> Iterator[Block]:
    """Yield the rows of a row group."""
    with _parquet(path, name) as table, storage.open_read(path) as stream:
        yield from _blocks(parquet_batches(table, group, stream, name))


def arrow_blocks(path: str, name: str) -> Iterator[Block]:
    """Yield the rows of an Arrow stream or an Arrow file (Feather)."""
    size = storage.size_of(path)
    # First pass, over headers alone: Arrow would unpack a whole batch before its size is known.
    with _named_errors("Arrow", name), storage.map_arrow(path) as source:
        is_file = _is_arrow_file(path)
        budget, largest = Budget.of_table(size, name), 0
        for unpacked in unpacked_sizes(source, is_file=is_file):
            budget.spend(unpacked)
            largest = max(largest, unpacked)
    budget = Budget.of_table(size, name)
    # A batch may be as large as the file; then it is mapped and not copied to memory.
    opened = storage.read_arrow(path) if largest <= MOST_IN_MEMORY else storage.map_arrow(path)
    with _named_errors("Arrow", name), opened as source:
        table = pa.ipc.open_file(source) if is_file else pa.ipc.open_stream(source)
        _check_names(table.schema, name)
        batches = (table.get_batch(i) for i in range(table.num_record_batches)) if is_file else table
        yield from _blocks(part for batch in batches for part in rows_within(_valid(batch), budget, ROWS))


def _is_arrow_file(path: str) -> bool:
    with storage.open_read(path) as head:
        return head.read(len(_FILE_MAGIC)) == _FILE_MAGIC


def _check_names(fields: Iterable[pa.Field], name: str) -> None:
    """Raise DataError if two columns, or two members of one, have the same name."""
    check_column_names([field.name for field in fields], name)
    for field in fields:
        _check_names([field.type.field(i) for i in range(field.type.num_fields)], f"`{field.name}` of {name}")


def _valid(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return a batch after a check of its offsets: Arrow trusts them, and a damaged file would crash Python."""
    batch.validate(full=True)
    return batch


def _blocks(parts: Iterator[pa.RecordBatch]) -> Iterator[Block]:
    """Yield blocks of ROWS rows, or fewer long ones."""
    line, rows, size, repaired = 1, list[Row](), 0, Counter[str]()
    for part in parts:
        if rows and (len(rows) + part.num_rows > ROWS or size > BLOCK_BYTES):
            yield Block(range(line, line + len(rows)), rows, [], size, repaired)
            line, rows, size, repaired = line + len(rows), [], 0, Counter()
        rows += _json_rows(part, repaired)
        size += part.nbytes
    if rows:
        yield Block(range(line, line + len(rows)), rows, [], size, repaired)


def _json_rows(part: pa.RecordBatch, repaired: Counter[str]) -> list[Row]:
    """Return the rows as JSON would give them, and count those that had to be repaired for it.

    Columns of JSON are parsed, NaN and infinity become null, and tools and calls lose the nulls that Arrow invents.
    """
    rows = part.to_pylist()
    for name in [field.name for field in part.schema if _holds_json(field.type)]:
        for row in rows:
            row[name] = _parsed(row[name])
    of_calls = [field for field in part.schema if _has_calls(field)]
    of_floats = [field for field in part.schema if _holds_floats(field.type)]
    repairs = ("nulls_of_arrow_in_tools", of_calls, _without_nulls), ("nan_as_null", of_floats, _finite)
    for repair, fields, mended in repairs:
        for row in rows if fields else ():
            new = {field.name: mended(row[field.name], field) for field in fields}
            if any(new[name] != row[name] for name in new):
                row.update(new)
                repaired[repair] += 1
    return list(rows)


def _holds_floats(kind: pa.DataType) -> bool:
    return pa.types.is_floating(kind) or any(_holds_floats(kind.field(i).type) for i in range(kind.num_fields))


def _has_calls(field: pa.Field) -> bool:
    kind = field.type
    while pa.types.is_list(kind) or pa.types.is_large_list(kind):
        kind = kind.value_type
    return pa.types.is_struct(kind) and (field.name in CALLS or any(map(_has_calls, kind)))


def _without_nulls(value: Any, field: pa.Field, inside: bool = False) -> Any:
    """Return a value without the members of tools and calls that are null: a struct has all members of all rows."""
    inside, kind = inside or field.name in CALLS, field.type
    if isinstance(value, list):
        return [_without_nulls(item, kind.value_field, inside) for item in value]
    if not isinstance(value, dict) or not pa.types.is_struct(kind):
        return value
    held = ((part, value[part.name]) for part in kind)
    return {part.name: _without_nulls(one, part, inside) for part, one in held if not inside or one is not None}


def _holds_json(kind: pa.DataType) -> bool:
    return isinstance(kind, pa.JsonType) or (pa.types.is_list(kind) and _holds_json(kind.value_type))


def _parsed(value: Any) -> Any:
    if isinstance(value, list):
        return list(map(_parsed, value))
    return orjson.loads(value) if isinstance(value, str) else value


def _finite(value: Any, _: object = None) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list):
        return list(map(_finite, value))
    return {name: _finite(member) for name, member in value.items()} if isinstance(value, dict) else value


@contextmanager
def _parquet(path: str, name: str) -> Iterator[pq.ParquetFile]:
    with _named_errors("Parquet", name), storage.open_read(path) as stream:
        yield pq.ParquetFile(stream)


@contextmanager
def _named_errors(kind: str, name: str) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as problem:
        message = f"the {kind} file is broken: {name}: {first_line(problem)}"
        raise DataError(message, hint="write or download it again") from None
