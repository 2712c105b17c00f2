"""Third step of prepare: write the kept rows to Parquet shards, whose number and borders depend on the data alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from hubdpo.artefacts.folders import storage
from hubdpo.artefacts.formats.messages import COLUMNS, OBJECTS, TOOLS
from hubdpo.artefacts.manifests.manifest import FileEntry
from hubdpo.data.clean.near_duplicates import Rows
from hubdpo.data.pairs.example import PreferenceExample
from hubdpo.data.pairs.extras import dumped, whole, with_extras
from hubdpo.data.pairs.message_column import mask_of, number_array, text_array

LEAST_SHARD, MOST_SHARD, SHARDS = 16 * 2**20, 512 * 2**20, 8
"""Least and most bytes of UTF-8 text in a shard, and how many shards a split has between these."""
ROWS_PER_GROUP = 1000  # what the Hub's viewer reads at once
ROWS_PER_WRITE = 4 * ROWS_PER_GROUP
CHUNKING = {"min_chunk_size": 256 * 1024, "max_chunk_size": 1024 * 1024, "norm_level": 0}
"""Content-defined chunking with the parameters of `datasets`: an edited version shares most of its bytes."""


@dataclass(frozen=True)
class Part:
    """Rows of the Arrow file of a piece, from `start` on; `times` has a byte for each: how often it is taken."""

    rows: str
    start: int
    times: bytes


@dataclass(frozen=True)
class ShardTask:
    path: str
    schema: pa.Schema
    parts: list[Part]


class Written(NamedTuple):
    """A shard that is written: its bytes in memory, as Arrow counts them, and its file."""

    in_memory: int
    file: FileEntry


def plan_shards(
    kept: Rows, sizes: npt.NDArray[np.uint32], pieces: list[tuple[str, int]], path: str, schema: pa.Schema
) -> list[ShardTask]:
    """Cut the kept rows of a split into shards, whose paths begin with `path`.

    Args:
        kept: row numbers over all pieces, in order, int64 (kept rows,); a row may be there several times.
        sizes: bytes of every row, (rows,).
        pieces: path of the Arrow file and number of rows, of every piece in order.
    """
    # a row belongs to the shard in which its last byte falls, so no row is cut
    ends = np.cumsum(sizes[kept].astype(np.int64))
    shard_of = ends // min(max(int(ends[-1]) // SHARDS + 1, LEAST_SHARD), MOST_SHARD)
    shards = np.split(kept, np.flatnonzero(np.diff(shard_of)) + 1)
    first_rows = np.cumsum([0, *(rows for _, rows in pieces)])
    return [
        ShardTask(f"{path}-{number:05d}-of-{len(shards):05d}.parquet", schema, list(_parts(rows, first_rows, pieces)))
        for number, rows in enumerate(shards)
    ]


def _parts(rows: Rows, first_rows: npt.NDArray[np.int64], pieces: list[tuple[str, int]]) -> Iterator[Part]:
    """Yield where the rows of a shard are: piece i holds rows first_rows[i] to first_rows[i + 1]."""
    first, last = (int(np.searchsorted(first_rows, row, "right")) - 1 for row in (rows[0], rows[-1]))
    for piece in range(first, last + 1):
        # row numbers within the piece
        inside = rows[(rows >= first_rows[piece]) & (rows < first_rows[piece + 1])] - first_rows[piece]
        if len(inside):
            start = int(inside[0])
            yield Part(pieces[piece][0], start, np.bincount(inside - start).astype(np.uint8).tobytes())


def write_shard(task: ShardTask) -> Written:
    """Write one Parquet file as `datasets` does."""
    in_memory = 0
    waiting: list[pa.RecordBatch] = []
    objects = task.schema.field(0).type == OBJECTS
    with (
        storage.open_arrow(task.path) as file,
        pq.ParquetWriter(
            file, task.schema, compression="snappy", write_page_index=True, use_content_defined_chunking=CHUNKING,
            use_dictionary=[] if objects else [f"{name}.list.element.role" for name in COLUMNS],
        ) as writer,
    ):  # fmt: skip
        for scratch in _batches(task):
            # of text alone there are no extras to put into the messages
            columns = _with_objects(scratch, task.schema) if objects else scratch.columns[: len(COLUMNS)]
            batch = pa.RecordBatch.from_arrays([*columns, *scratch.columns[len(COLUMNS) + 1 :]], schema=task.schema)
            in_memory += batch.nbytes
            waiting.append(batch)
            if sum(part.num_rows for part in waiting) >= ROWS_PER_WRITE:
                waiting = _write_groups(writer, waiting, task.schema)
        if waiting:
            writer.write_table(pa.Table.from_batches(waiting, task.schema), row_group_size=ROWS_PER_GROUP)
        writer.add_key_value_metadata({"content_defined_chunking": json.dumps(CHUNKING)})
    return Written(in_memory, entry_of(task.path))


def entry_of(path: str) -> FileEntry:
    return FileEntry(sha256=storage.sha256(path), size=storage.size_of(path))


def _with_objects(batch: pa.RecordBatch, schema: pa.Schema) -> list[pa.Array]:
    """Return the columns of messages as JSON objects with their extras, and that of tools if there are any."""
    read = [column.to_pylist() for column in batch.columns[: len(COLUMNS) + 1]]
    examples = [with_extras(PreferenceExample(*row), extras) for *row, extras in zip(*read, strict=True)]
    arrays = [_objects([list(map(dumped, map(whole, getattr(e, name)))) for e in examples]) for name in COLUMNS]
    if TOOLS in schema.names:
        tools = [orjson.loads(e.tools) if e.tools else None for e in examples]
        arrays.append(_objects([some and list(map(dumped, some)) for some in tools]))
    return arrays


def _objects(rows: list[list[str] | None]) -> pa.ListArray:
    """Build an Arrow array of lists of JSON objects; None becomes null."""
    ends = np.cumsum([0, *(len(row or ()) for row in rows)]).astype(np.int32)
    values = pa.ExtensionArray.from_storage(
        OBJECTS.value_type, text_array([text for row in rows for text in row or ()])
    )
    nulls = mask_of([row is None for row in rows])
    return pa.ListArray.from_arrays(number_array(pa.int32(), ends), values, type=OBJECTS, mask=nulls)


def _write_groups(writer: pq.ParquetWriter, waiting: list[pa.RecordBatch], schema: pa.Schema) -> list[pa.RecordBatch]:
    """Write the waiting rows that fill whole row groups, and return the rest."""
    table = pa.Table.from_batches(waiting, schema)
    whole = table.num_rows // ROWS_PER_GROUP * ROWS_PER_GROUP
    writer.write_table(table.slice(0, whole), row_group_size=ROWS_PER_GROUP)
    return list(table.slice(whole).to_batches())


def _batches(task: ShardTask) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a shard, from memory-mapped Arrow files."""
    for part in task.parts:
        times = np.frombuffer(part.times, np.uint8)
        with storage.map_arrow(part.rows) as source:
            at = 0
            for rows in pa.ipc.open_file(source).read_all().slice(part.start, len(times)).to_batches():
                yield _taken(rows, times[at : at + rows.num_rows])
                at += rows.num_rows


def _taken(rows: pa.RecordBatch, times: npt.NDArray[np.uint8]) -> pa.RecordBatch:
    """Return each row as often as `times`, uint8 (rows,), says."""
    if (times == 1).all():
        return rows
    if times.max() == 1:
        return rows.filter(mask_of(times > 0))
    return rows.take(number_array(pa.int64(), np.repeat(np.arange(len(times)), times)))
