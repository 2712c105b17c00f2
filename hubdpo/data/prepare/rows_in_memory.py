"""Sources that are rows in memory: dicts, a `datasets.Dataset`, a pandas or polars frame, a pyarrow table.

They are written to the workspace once and then read like any other file: dicts as JSON Lines, tables as Parquet. The
bytes depend on the rows alone, so equal rows give equal fingerprints. Rows are counted from 1, as lines are.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from itertools import chain
from typing import Any, TypeGuard

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from hubdpo import console
from hubdpo.artefacts.folders import storage
from hubdpo.artefacts.manifests.prepare import IN_MEMORY
from hubdpo.config.base import SURROGATE
from hubdpo.data.raw.raw_file import RawFile
from hubdpo.data.raw.rows import check_column_names
from hubdpo.data.raw.sources.state import state_of
from hubdpo.data.raw.split_names import split_of
from hubdpo.data.raw.text.json_layout import MESSAGE
from hubdpo.errors import ConfigError, DataError

ROWS_PER_GROUP = 8192
TAKEN = "a list of dicts, a datasets.Dataset or DatasetDict, a pandas or polars DataFrame, or a pyarrow.Table"
JOIN = {
    "datasets": "datasets.concatenate_datasets(source)", "pandas": "pandas.concat(source)",
    "polars": "polars.concat(source)", "pyarrow": "pyarrow.concat_tables(source)",
}  # fmt: skip
"""What joins a list of tables, by the library that made them."""
_NOTHING = object()

RowSets = dict[str, object]
"""Rows by the name of their split; "" if they have none."""


def rows_in_memory(source: object) -> RowSets | None:
    """Return the rows that `source` holds, or None if it names files. Raise ConfigError if it is neither."""
    if source is None or isinstance(source, (str, os.PathLike)):
        return None
    if isinstance(source, Mapping):
        return _splits(source)
    if _is_table(source):
        return {"": source}
    kind, hint = type(source).__name__, f"give paths, or {TAKEN}"
    if not _is_collection(source):
        raise ConfigError(f"`source` is neither rows nor paths: {kind}", hint=hint)
    first, rows = _first_item(source)
    if isinstance(first, Mapping):
        return {"": rows}
    if isinstance(first, (str, os.PathLike)):
        if isinstance(source, Sequence) and not hasattr(source, "column_name"):  # a column of a Dataset has a name
            return None
        if isinstance(source, Iterator):
            raise ConfigError(f"`source` is an iterator over paths: {kind}", hint="give their list: sorted(source)")
        raise ConfigError(f"`source` is a column of texts, not rows: {kind}", hint="give the whole table")
    if first is _NOTHING:
        raise ConfigError("`source` is empty", hint=hint)
    if _is_table(first):
        join = JOIN.get(type(first).__module__.partition(".")[0], "one table of their rows")
        raise ConfigError(f"`source` is a list of tables: {type(first).__name__}", hint=f"join them: {join}")
    raise ConfigError(f"item 1 of `source` is neither a dict nor a path: {type(first).__name__}", hint=hint)


def write_rows(rows: RowSets, scratch: str) -> list[RawFile]:
    """Write rows to files in `scratch`, one for each split. Raise DataError if there are none, or they do not fit."""
    files = []
    for number, (split, source) in enumerate(rows.items()):
        name = f"{IN_MEMORY} ({split})" if split else IN_MEMORY
        ending, write = ("parquet", _write_table) if _is_table(source) else ("jsonl", _write_dicts)
        path = storage.join(scratch, f"memory-{number}.{ending}")
        if not write(source, path, name):
            raise DataError(f"{name}: there are none", hint="check how the table was made")
        published = split_of(split) if split else None
        files.append(RawFile(path, name, path, published, name, number=number, state=state_of(path, name)))
    return files


def _splits(source: Mapping[object, object]) -> RowSets:
    """Return the rows of each split of a dict such as a DatasetDict. Raise ConfigError for any other dict."""
    if not source:
        raise ConfigError("`source` is an empty dict", hint=f"give {TAKEN}")
    rows = {str(name): _rows_of_split(value) for name, value in source.items()}
    wrong = [(name, value) for name, value in source.items() if rows[str(name)] is None]
    if not wrong:
        if len(rows) > 1 and (unnamed := [f"`{name}`" for name in rows if split_of(name) is None]):
            has_test = "test" in map(split_of, rows)
            result = "their rows join `train`" if has_test else "all rows are read together, and a new test split drawn"
            verb = "name" if len(unnamed) > 1 else "names"
            console.warn(f"{console.listed(unnamed)} of `source` {verb} neither train nor test rows: {result}")
        return rows
    if all(split_of(str(name)) for name in source):
        name, value = wrong[0]
        if isinstance(value, (str, os.PathLike)):
            raise ConfigError(
                f"`source` is a dict, and `{name}` of it is a path",
                hint="give the paths in a list: names such as train.jsonl and test.jsonl name the splits",
            )
        raise ConfigError(
            f"`source` is a dict of splits, and `{name}` is neither rows nor a table: {type(value).__name__}",
            hint=f"give for each split {TAKEN.replace(' or DatasetDict', '')}",
        )
    if all(_is_collection(value) and not isinstance(_first_item(value)[0], Mapping) for value in source.values()):
        raise ConfigError(
            "`source` is a dict of columns, not a list of rows",
            hint="give pyarrow.table(source), or a list of dicts, one for each row",
        )
    raise ConfigError("`source` is a single row", hint="give a list of rows, [source] if there is but one")


def _rows_of_split(value: object) -> object | None:
    """Return a value of a dict if it is a table, or dicts that are not messages; else None."""
    if _is_table(value):
        return value
    if not _is_collection(value):
        return None
    first, rows = _first_item(value)
    is_message = isinstance(first, Mapping) and any(members <= first.keys() for members in MESSAGE)
    return rows if first is _NOTHING or (isinstance(first, Mapping) and not is_message) else None


def _first_item(items: Iterable[object]) -> tuple[object, Iterable[object]]:
    """Return the first item, _NOTHING if there is none, and all items, of which an iterator has lost none."""
    first = next(iter(items), _NOTHING)
    return first, chain([first], items) if isinstance(items, Iterator) and first is not _NOTHING else items


def _is_collection(source: object) -> TypeGuard[Iterable[object]]:
    """Tell whether items come in an order; that of a set would differ from run to run."""
    return isinstance(source, Iterable) and not isinstance(source, (str, bytes, bytearray, Mapping, Set))


def _is_table(source: object) -> bool:
    """Tell tables by what they can do: pandas, polars and datasets are not imported for those who do not use them."""
    if isinstance(source, (pa.Table, pa.RecordBatch, pa.RecordBatchReader)):
        return True
    # frames of pandas and polars have columns, a Series has none
    is_frame = hasattr(source, "to_arrow") or hasattr(source, "iloc")
    is_dataset = hasattr(source, "with_format") and hasattr(source, "num_rows") and not isinstance(source, Mapping)
    return (is_frame and hasattr(type(source), "columns")) or is_dataset


def _write_dicts(rows: Any, path: str, name: str) -> int:
    """Write rows as JSON Lines, and return their number."""
    number = 0
    with storage.open_write(path) as file:
        for number, row in enumerate(rows, 1):
            if not isinstance(row, Mapping):
                raise ConfigError(
                    f"row {number} of the {name} is not a dict: {type(row).__name__}",
                    hint="give a list of dicts alone, or of paths alone",
                )
            try:
                file.write(orjson.dumps(dict(row), option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_SERIALIZE_NUMPY))
            except TypeError as problem:  # orjson.JSONEncodeError is one
                _refuse_surrogate(row, f"row {number} of the {name}")
                raise DataError(
                    f"row {number} of the {name} cannot be written as JSON: {problem}",
                    hint="give texts, numbers, lists and dicts with text keys",
                ) from None
    return number


def _refuse_surrogate(row: Mapping[Any, Any], place: str) -> None:
    """Raise DataError if a text has half a character of UTF-16, which no encoding can write."""
    for column, value in row.items():
        if found := SURROGATE.search(json.dumps(value, ensure_ascii=False, default=str)):
            raise DataError(
                f"{place} cannot be written as JSON: `{column}` has the lone surrogate {ascii(found[0])}",
                hint="remove it: text.encode(errors='ignore').decode()",
            ) from None


def _write_table(source: Any, path: str, name: str) -> int:
    """Write Parquet whose bytes do not depend on how the table was made: no dictionaries, metadata or Arrow schema.

    Return the number of rows.
    """
    rows = 0
    try:
        with storage.open_write(path) as file:
            writer = None
            for table in _groups(source, name):
                plain = table.combine_chunks()
                writer = writer or pq.ParquetWriter(
                    file, plain.schema, compression="none", use_dictionary=False, store_schema=False
                )
                writer.write_table(plain, row_group_size=ROWS_PER_GROUP)
                rows += plain.num_rows
            if writer is not None:
                writer.close()
    except (pa.ArrowException, TypeError) as problem:
        raise DataError(
            f"{name}: the table cannot be written as Parquet: {' '.join(str(problem).split())}",
            hint="give the rows as a list of dicts, such as frame.to_dict('records')",
        ) from None
    return rows


def _groups(source: Any, name: str) -> Iterator[pa.Table]:
    """Yield the rows of a table, ROWS_PER_GROUP at a time."""
    if hasattr(source, "with_format"):
        # a Dataset that was filtered or shuffled applies its indices here
        yield from source.with_format("arrow").iter(batch_size=ROWS_PER_GROUP)
        return
    if hasattr(source, "to_arrow"):
        table = source.to_arrow()
    elif hasattr(source, "iloc"):
        check_column_names(map(str, source.columns), name)
        table = pa.Table.from_pandas(source, preserve_index=False)
    else:
        table = pa.table(source)  # record batches, and readers of them, as well
    for start in range(0, table.num_rows, ROWS_PER_GROUP):
        yield table.slice(start, ROWS_PER_GROUP)
