"""Sources that are rows in memory: dicts, a `datasets.Dataset`, a pandas or polars frame, a pyarrow table.

They are written to the workspace once and then read like any other file: dicts as JSON Lines, tables as Parquet. The
bytes depend on the rows alone, so equal rows give equal fingerprints.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from hubdpo.artefacts.folders import storage
from hubdpo.artefacts.manifests.funnel import IN_MEMORY
from hubdpo.data.raw.raw_file import RawFile
from hubdpo.data.raw.sources.state import state_of
from hubdpo.data.raw.split_names import split_of
from hubdpo.errors import ConfigError, DataError

ROWS_PER_GROUP = 8192
TAKEN = "a list of dicts, a datasets.Dataset or DatasetDict, a pandas or polars DataFrame, or a pyarrow.Table"

RowSets = dict[str, object]
"""Rows by the name of their split; "" if they have none."""


def rows_in_memory(source: object) -> RowSets | None:
    """Return the rows that `source` holds, or None if it names files. Raise ConfigError if it is neither."""
    if source is None or isinstance(source, (str, os.PathLike)):
        return None
    if _is_table(source):
        return {"": source}
    if isinstance(source, Mapping):
        if source and all(map(_is_table, source.values())):
            return {str(split): table for split, table in source.items()}
        raise ConfigError(
            "`source` is a dict of columns, not a list of rows",
            hint="give pyarrow.table(source), or a list of dicts, one for each row",
        )
    if not isinstance(source, Sequence) or isinstance(source, bytes):
        raise ConfigError(
            f"`source` is neither rows nor paths: {type(source).__name__}", hint=f"give paths, or {TAKEN}"
        )
    if not source:
        raise ConfigError("`source` is empty", hint=f"give paths, or {TAKEN}")
    are_rows = [isinstance(item, Mapping) for item in source]
    are_paths = [isinstance(item, (str, os.PathLike)) for item in source]
    if all(are_paths):
        return None
    if all(are_rows):
        return {"": source}
    hint = "give a list of dicts alone, or of paths alone"
    for index, (is_row, is_path) in enumerate(zip(are_rows, are_paths, strict=True)):
        if not is_row and not is_path:
            kind = type(source[index]).__name__
            raise ConfigError(f"item {index} of `source` is neither a dict nor a path: {kind}", hint=hint)
    raise ConfigError("`source` mixes dicts and paths", hint=hint)


def write_rows(rows: RowSets, scratch: str) -> list[RawFile]:
    """Write rows to files in `scratch`, one for each split. Raise DataError if there are none, or they do not fit."""
    files = []
    for number, (split, source) in enumerate(rows.items()):
        name = f"{IN_MEMORY} ({split})" if split else IN_MEMORY
        path = storage.join(scratch, f"memory-{number}{'.parquet' if _is_table(source) else '.jsonl'}")
        if _is_table(source):
            _write_table(source, path, name)
        else:
            _write_dicts(source, path)  # type: ignore[arg-type]  # `rows_in_memory` has looked at each
        published = split_of(split) if split else None
        files.append(RawFile(path, name, path, published, name, number=number, state=state_of(path, name)))
    return files


def _is_table(source: object) -> bool:
    """Tell tables by what they can do: pandas, polars and datasets are not imported for those who do not use them."""
    return (
        isinstance(source, pa.Table)
        or hasattr(source, "to_arrow")  # polars
        or hasattr(source, "iloc")  # pandas
        or (hasattr(source, "with_format") and hasattr(source, "num_rows") and not isinstance(source, Mapping))
    )


def _write_dicts(rows: Sequence[Mapping[str, object]], path: str) -> None:
    with storage.open_write(path) as file:
        for index, row in enumerate(rows):
            try:
                file.write(orjson.dumps(dict(row), option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_SERIALIZE_NUMPY))
            except TypeError as problem:  # orjson.JSONEncodeError is one
                raise DataError(
                    f"row {index} of the {IN_MEMORY} cannot be written as JSON: {problem}",
                    hint="give texts, numbers, lists and dicts with text keys",
                ) from None


def _write_table(source: object, path: str, name: str) -> None:
    """Write Parquet whose bytes do not depend on how the table was made: no dictionaries, metadata or Arrow schema."""
    rows = 0
    try:
        with storage.open_write(path) as file:
            writer = None
            for table in _groups(source):
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
    if not rows:
        raise DataError(f"{name}: there are none", hint="check how the table was made")


def _groups(source: object) -> Iterator[pa.Table]:
    """Yield the rows of a table, ROWS_PER_GROUP at a time."""
    if hasattr(source, "with_format"):
        # a Dataset that was filtered or shuffled applies its indices here
        yield from source.with_format("arrow").iter(batch_size=ROWS_PER_GROUP)
        return
    table = source
    if hasattr(source, "to_arrow"):
        table = source.to_arrow()
    elif hasattr(source, "iloc"):
        table = pa.Table.from_pandas(source, preserve_index=False)
    assert isinstance(table, pa.Table)
    for start in range(0, table.num_rows, ROWS_PER_GROUP):
        yield table.slice(start, ROWS_PER_GROUP)
