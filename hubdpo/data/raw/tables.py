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
from hubdpo.data.raw.expansion import Budget, batch_rows, check_footer, group_budget, rows_within, unpacked_sizes
from hubdpo.data.raw.rows import Block, check_column_names
from hubdpo.errors import DataError
from hubdpo.hub.failures import first_line

ROWS = 1024
"""Rows of a table in one block."""
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


def parquet_blocks(path: str, name: str, groups: range) -> Iterator[Block]:
    """Yield the rows of some row groups."""
    with _parquet(path, name) as table, storage.open_read(path) as stream:
        for group in groups:
            rows = batch_rows(table.metadata, group, stream)
            batches = table.iter_batches(batch_size=rows, row_groups=[group])
            yield from _blocks(batches, group_budget(table.metadata, group, name))


def arrow_blocks(path: str, name: str) -> Iterator[Block]:
    """Yield the rows of an Arrow stream or an Arrow file (Feather)."""
    with _named_errors("Arrow", name):
        is_file = _is_arrow_file(path)
    size = storage.size_of(path)
    # First pass, over headers alone: Arrow would unpack a whole batch before its size is known.
    with _named_errors("Arrow", name), storage.map_arrow(path) as source:
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
        yield from _blocks(map(_valid, batches), budget)


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


def _blocks(batches: Iterator[pa.RecordBatch], budget: Budget) -> Iterator[Block]:
    """Yield blocks of ROWS rows, or fewer long ones."""
    line, rows, size, repaired = 1, list[Row](), 0, Counter[str]()
    for batch in batches:
        for part in rows_within(batch, budget, ROWS):
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
    for row in rows if of_calls else ():
        bare = {field.name: _without_nulls(row[field.name], field.type, field.name in CALLS) for field in of_calls}
        if any(bare[name] != row[name] for name in bare):
            row.update(bare)
            repaired["nulls_of_arrow_in_tools"] += 1
    names = [field.name for field in part.schema if _holds_floats(field.type)]
    for row in rows if names else ():
        finite = {name: _finite(row[name]) for name in names}
        if any(finite[name] is not row[name] for name in names):
            row.update(finite)
            repaired["nan_as_null"] += 1
    return list(rows)


def _holds_floats(kind: pa.DataType) -> bool:
    return pa.types.is_floating(kind) or any(_holds_floats(kind.field(i).type) for i in range(kind.num_fields))


def _has_calls(field: pa.Field) -> bool:
    """Whether a column holds structs of tools or calls, at any depth."""
    kind = field.type
    while pa.types.is_list(kind) or pa.types.is_large_list(kind):
        kind = kind.value_type
    return pa.types.is_struct(kind) and (field.name in CALLS or any(map(_has_calls, kind)))


def _without_nulls(value: Any, kind: pa.DataType, inside: bool) -> Any:
    """Return a value without the members of tools and calls that are null: a struct has all members of all rows."""
    if isinstance(value, list):
        return [_without_nulls(item, kind.value_type, inside) for item in value]
    if not isinstance(value, dict) or not pa.types.is_struct(kind):
        return value
    return {
        part.name: _without_nulls(value[part.name], part.type, inside or part.name in CALLS)
        for part in kind
        if not inside or value[part.name] is not None
    }


def _holds_json(kind: pa.DataType) -> bool:
    return isinstance(kind, pa.JsonType) or (pa.types.is_list(kind) and _holds_json(kind.value_type))


def _parsed(value: Any) -> Any:
    """Return the value that JSON text holds, or the values of a list of such texts."""
    if isinstance(value, list):
        return list(map(_parsed, value))
    return orjson.loads(value) if isinstance(value, str) else value


def _finite(value: Any) -> Any:
    """Return a value with None for each number that is not finite; the same object if there is none."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list):
        items = list(map(_finite, value))
        return items if any(new is not old for new, old in zip(items, value, strict=True)) else value
    if isinstance(value, dict):
        members = {name: _finite(member) for name, member in value.items()}
        return members if any(members[name] is not member for name, member in value.items()) else value
    return value


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
