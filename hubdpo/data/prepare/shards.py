"""Third step of prepare: rows to Parquet shards, whose number and borders depend on the data alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hubdpo.artefacts.folders import storage
from hubdpo.artefacts.formats.messages import COLUMNS, schema
from hubdpo.data.pairs.message_column import mask_of

LEAST_SHARD, MOST_SHARD, SHARDS = 16 * 2**20, 512 * 2**20, 8
"""Bytes of text (UTF-8) in a shard at least and at most; between these, as many shards as share the work well."""
ROWS_A_GROUP = 1000  # what the Hub's viewer reads at once
ROWS_A_WRITE = 4 * ROWS_A_GROUP
CHUNKING = {"min_chunk_size": 256 * 1024, "max_chunk_size": 1024 * 1024, "norm_level": 0}
"""Content-defined chunking as `datasets` writes it: an edited version shares most of its bytes with the one before."""


@dataclass(frozen=True)
class Part:
    """Rows `start` to `stop` of the file `rows`, what a piece gave; `mask` (bytes of 0 and 1) tells which to take."""

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
    """In memory, as Arrow counts."""
    sha256: str
    size: int


def plan_shards(
    kept: Any,
    sizes: Any,
    counts: list[tuple[str, int]],
    *,
    folder: str,
    split: str,
    keep: list[str],
) -> list[ShardTask]:
    """Cut the rows `kept` (their numbers over all pieces, in order) into shards.

    `sizes` are the bytes of every row, `counts` the (file of rows, their number) of every piece in order.
    """  # fmt: skip
    total = np.cumsum(sizes[kept].astype(np.int64))
    shard_of = total // min(max(int(total[-1]) // SHARDS + 1, LEAST_SHARD), MOST_SHARD)
    borders = [0, *(np.flatnonzero(np.diff(shard_of)) + 1).tolist(), len(kept)]
    bounds = np.cumsum([0, *(rows for _, rows in counts)])
    tasks = []
    for number, (start, stop) in enumerate(zip(borders, borders[1:], strict=False)):
        rows = kept[start:stop]
        path = storage.join(folder, f"{split}-{number:05d}-of-{len(borders) - 1:05d}.parquet")
        tasks.append(ShardTask(path, keep, _parts(rows, bounds, [place for place, _ in counts])))
    return tasks


def _parts(rows: Any, bounds: Any, places: list[str]) -> list[Part]:
    parts = []
    first = int(np.searchsorted(bounds, rows[0], "right")) - 1
    last = int(np.searchsorted(bounds, rows[-1], "right")) - 1
    for piece in range(first, last + 1):
        inside = rows[(rows >= bounds[piece]) & (rows < bounds[piece + 1])] - bounds[piece]
        if len(inside):
            start, stop = int(inside[0]), int(inside[-1]) + 1
            mask = np.zeros(stop - start, np.uint8)
            mask[inside - start] = 1
            parts.append(Part(places[piece], start, stop, mask.tobytes()))
    return parts


def write_shard(task: ShardTask) -> Written:
    """Write one Parquet file: packed as `datasets` does, page index, content-defined chunks, groups of ROWS_A_GROUP."""
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
            if sum(part.num_rows for part in waiting) >= ROWS_A_WRITE:
                waiting = _write_groups(writer, waiting, schema_)
        if waiting:
            writer.write_table(pa.Table.from_batches(waiting, schema_), row_group_size=ROWS_A_GROUP)
        writer.add_key_value_metadata({"content_defined_chunking": json.dumps(CHUNKING)})
    return Written(size, storage.sha256(task.path), storage.size_of(task.path))


def _write_groups(writer: pq.ParquetWriter, waiting: list[pa.RecordBatch], schema_: pa.Schema) -> list[pa.RecordBatch]:
    """Write whole row groups, and return the rows that are left over."""
    table = pa.Table.from_batches(waiting, schema_)
    whole = table.num_rows // ROWS_A_GROUP * ROWS_A_GROUP
    writer.write_table(table.slice(0, whole), row_group_size=ROWS_A_GROUP)
    return list(table.slice(whole).to_batches())


def _batches(task: ShardTask) -> Iterator[pa.RecordBatch]:
    for part in task.parts:
        mask = np.frombuffer(part.mask, np.uint8).astype(bool)
        with storage.map_arrow(part.rows) as source:
            reader = pa.ipc.open_file(source)
            at = 0
            for number in range(reader.num_record_batches):
                if at >= part.stop:
                    break
                batch = reader.get_batch(number)
                lo, hi = max(part.start, at), min(part.stop, at + batch.num_rows)
                if lo < hi:
                    inside = mask[lo - part.start : hi - part.start]
                    batch_part = batch.slice(lo - at, hi - lo)
                    yield batch_part if inside.all() else batch_part.filter(mask_of(inside))
                at += batch.num_rows
