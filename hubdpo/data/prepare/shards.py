"""Third step of prepare: write the kept rows to Parquet shards, whose number and borders depend on the data alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from hubdpo.artefacts.folders import storage
from hubdpo.artefacts.formats.messages import COLUMNS, schema
from hubdpo.data.clean.near_duplicates import Rows
from hubdpo.data.pairs.message_column import mask_of

LEAST_SHARD, MOST_SHARD, SHARDS = 16 * 2**20, 512 * 2**20, 8
"""Least and most bytes of UTF-8 text in a shard, and how many shards a split has between these."""
ROWS_PER_GROUP = 1000  # what the Hub's viewer reads at once
ROWS_PER_WRITE = 4 * ROWS_PER_GROUP
CHUNKING = {"min_chunk_size": 256 * 1024, "max_chunk_size": 1024 * 1024, "norm_level": 0}
"""Content-defined chunking with the parameters of `datasets`: an edited version shares most of its bytes."""


@dataclass(frozen=True)
class Part:
    """Rows `start` to `stop` of the Arrow file of a piece; `mask` has a byte for each, 1 if the row is taken."""

    rows: str
    start: int
    stop: int
    mask: bytes


@dataclass(frozen=True)
class ShardTask:
    path: str
    keep: list[str]
    parts: list[Part]


@dataclass(frozen=True)
class Written:
    bytes: int
    """Size in memory, as Arrow counts it."""
    sha256: str
    size: int


def plan_shards(
    kept: Rows, sizes: npt.NDArray[np.uint32], pieces: list[tuple[str, int]], path: str, keep: list[str]
) -> list[ShardTask]:
    """Cut the kept rows of a split into shards, whose paths begin with `path`.

    Args:
        kept: row numbers over all pieces, in order, int64 (kept rows,).
        sizes: bytes of every row, (rows,).
        pieces: path of the Arrow file and number of rows, of every piece in order.
    """
    # a row belongs to the shard in which its last byte falls, so no row is cut
    ends = np.cumsum(sizes[kept].astype(np.int64))
    shard_of = ends // min(max(int(ends[-1]) // SHARDS + 1, LEAST_SHARD), MOST_SHARD)
    shards = np.split(kept, np.flatnonzero(np.diff(shard_of)) + 1)
    first_rows = np.cumsum([0, *(rows for _, rows in pieces)])
    return [
        ShardTask(f"{path}-{number:05d}-of-{len(shards):05d}.parquet", keep, list(_parts(rows, first_rows, pieces)))
        for number, rows in enumerate(shards)
    ]


def _parts(rows: Rows, first_rows: npt.NDArray[np.int64], pieces: list[tuple[str, int]]) -> Iterator[Part]:
    """Yield where the rows of a shard are: piece i holds rows first_rows[i] to first_rows[i + 1]."""
    first, last = (int(np.searchsorted(first_rows, row, "right")) - 1 for row in (rows[0], rows[-1]))
    for piece in range(first, last + 1):
        # row numbers within the piece
        inside = rows[(rows >= first_rows[piece]) & (rows < first_rows[piece + 1])] - first_rows[piece]
        if len(inside):
            start, stop = int(inside[0]), int(inside[-1]) + 1
            mask = np.zeros(stop - start, np.uint8)
            mask[inside - start] = 1
            yield Part(pieces[piece][0], start, stop, mask.tobytes())


def write_shard(task: ShardTask) -> Written:
    """Write one Parquet file as `datasets` does: Snappy, page index, content-defined chunks, small row groups."""
    size = 0
    waiting: list[pa.RecordBatch] = []
    schema_ = schema(task.keep)
    with (
        storage.open_arrow(task.path) as file,
        pq.ParquetWriter(
            file, schema_, compression="snappy", write_page_index=True, use_content_defined_chunking=CHUNKING,
            use_dictionary=[f"{name}.list.element.role" for name in COLUMNS],
        ) as writer,
    ):  # fmt: skip
        for batch in _batches(task):
            size += batch.nbytes
            waiting.append(batch)
            if sum(part.num_rows for part in waiting) >= ROWS_PER_WRITE:
                waiting = _write_groups(writer, waiting, schema_)
        if waiting:
            writer.write_table(pa.Table.from_batches(waiting, schema_), row_group_size=ROWS_PER_GROUP)
        writer.add_key_value_metadata({"content_defined_chunking": json.dumps(CHUNKING)})
    return Written(size, storage.sha256(task.path), storage.size_of(task.path))


def _write_groups(writer: pq.ParquetWriter, waiting: list[pa.RecordBatch], schema_: pa.Schema) -> list[pa.RecordBatch]:
    """Write the waiting rows that fill whole row groups, and return the rest."""
    table = pa.Table.from_batches(waiting, schema_)
    whole = table.num_rows // ROWS_PER_GROUP * ROWS_PER_GROUP
    writer.write_table(table.slice(0, whole), row_group_size=ROWS_PER_GROUP)
    return list(table.slice(whole).to_batches())


def _batches(task: ShardTask) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a shard, from memory-mapped Arrow files."""
    for part in task.parts:
        mask = np.frombuffer(part.mask, np.uint8).astype(bool)
        with storage.map_arrow(part.rows) as source:
            reader = pa.ipc.open_file(source)
            begin = 0  # row of the piece that the batch begins with
            for number in range(reader.num_record_batches):
                if begin >= part.stop:
                    break
                batch = reader.get_batch(number)
                start, stop = max(part.start, begin), min(part.stop, begin + batch.num_rows)
                if start < stop:
                    wanted = mask[start - part.start : stop - part.start]
                    rows = batch.slice(start - begin, stop - start)
                    yield rows if wanted.all() else rows.filter(mask_of(wanted))
                begin += batch.num_rows
