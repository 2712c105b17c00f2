"""Parquet and Arrow files, whose faults become a DataError that names the file."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from hubdpo.artefacts.folders import storage
from hubdpo.data.raw.arrow_messages import unpacked_sizes
from hubdpo.data.raw.expansion import Budget, batch_rows, check_footer, group_budget, rows_within
from hubdpo.data.raw.rows import Block
from hubdpo.errors import DataError

ROWS = 1024
"""Rows of a table that are taken at once."""
BLOCK_BYTES = 16 * 2**20
"""Bytes of rows from which on fewer are taken."""
MOST_IN_MEMORY = 64 * 2**20
"""Bytes of a batch of Arrow that is read as a whole."""
_FILE_MAGIC = b"ARROW1"
"""What an Arrow file begins with; `datasets.save_to_disk` writes Arrow streams, which begin with none."""


def row_groups(path: str, name: str) -> int:
    """Return how many row groups a Parquet file has. Raise DataError when it unpacks too far."""
    with _parquet(path, name) as table:
        check_footer(table.metadata, storage.size_of(path), name)
        return int(table.num_row_groups)


def parquet_blocks(path: str, name: str, groups: range) -> Iterator[Block]:
    with _parquet(path, name) as table, storage.open_read(path) as stream:
        for group in groups:
            rows = batch_rows(table.metadata, group, stream)
            batches = table.iter_batches(batch_size=rows, row_groups=[group])
            yield from _blocks(batches, group_budget(table.metadata, group, name))


def arrow_blocks(path: str, name: str) -> Iterator[Block]:
    """Give the rows of an Arrow stream or an Arrow file (Feather)."""
    with _explained("Arrow", name), storage.open_read(path) as head:
        is_file = head.read(len(_FILE_MAGIC)) == _FILE_MAGIC
    size = storage.size_of(path)
    with _explained("Arrow", name), storage.map_arrow(path) as source:
        budget, largest = Budget.of_table(size, name), 0
        for unpacked in unpacked_sizes(source, is_file=is_file):
            budget.spend(unpacked)
            largest = max(largest, unpacked)
    budget = Budget.of_table(size, name)
    # a batch as large as the file may be is left where it is
    opened = storage.read_arrow(path) if largest <= MOST_IN_MEMORY else storage.map_arrow(path)
    with _explained("Arrow", name), opened as source:
        if is_file:
            table = pa.ipc.open_file(source)
            yield from _blocks((_valid(table.get_batch(number)) for number in range(table.num_record_batches)), budget)
        else:
            yield from _blocks(map(_valid, pa.ipc.open_stream(source)), budget)


def _valid(batch: Any) -> Any:
    """Return a batch whose offsets lie inside it: Arrow trusts those of a file, and a damaged one crashes Python."""
    batch.validate(full=True)
    return batch


def _blocks(batches: Iterator[Any], budget: Budget) -> Iterator[Block]:
    """Give blocks of ROWS rows, or of fewer where these are long."""
    line, rows, size, repaired = 1, list[dict[str, Any]](), 0, Counter[str]()
    for batch in batches:
        for part in rows_within(batch, budget, ROWS):
            if rows and (len(rows) + part.num_rows > ROWS or size > BLOCK_BYTES):
                yield Block(range(line, line + len(rows)), rows, [], size, repaired)
                line, rows, size, repaired = line + len(rows), [], 0, Counter()
            more, counts = _without_nan(part)
            rows += more
            size += part.nbytes
            repaired += counts
    if rows:
        yield Block(range(line, line + len(rows)), rows, [], size, repaired)


def _without_nan(part: Any) -> tuple[list[dict[str, Any]], Counter[str]]:
    """Return the rows with null for NaN and infinity, as JSON has it, and how many rows were put right so."""
    rows = part.to_pylist()
    count = 0
    names = [field.name for field in part.schema if _holds_floats(field.type)]
    for row in rows if names else ():
        plain = {name: _plain(row[name]) for name in names}
        if any(plain[name] is not row[name] for name in names):
            row.update(plain)
            count += 1
    return rows, Counter({"nan_as_null": count} if count else {})


def _holds_floats(kind: Any) -> bool:
    return pa.types.is_floating(kind) or any(_holds_floats(kind.field(at).type) for at in range(kind.num_fields))


def _plain(value: Any) -> Any:
    """Return a value with None for each number in it that is not finite; the very same where there is none."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list):
        items = list(map(_plain, value))
        return items if any(new is not old for new, old in zip(items, value, strict=True)) else value
    if isinstance(value, dict):
        members = {name: _plain(held) for name, held in value.items()}
        return members if any(members[name] is not held for name, held in value.items()) else value
    return value


@contextmanager
def _parquet(path: str, name: str) -> Iterator[pq.ParquetFile]:
    with _explained("Parquet", name), storage.open_read(path) as stream:
        yield pq.ParquetFile(stream)


@contextmanager
def _explained(kind: str, name: str) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as problem:
        first = str(problem).splitlines()[0] if str(problem) else type(problem).__name__
        raise DataError(f"the {kind} file is broken: {name}: {first}", hint="write or download it again") from None
