"""The least that any Python program with these libraries has to do: parse each line, write its texts as Parquet.

As many processes as there are cores, orjson, Arrow, the compression and the chunking that hubdpo writes with; nothing
is checked, compared, split, counted or told. What hubdpo takes beyond this is what all of that costs. Prints the
seconds of work, no imports. Usage: floor.py SHAPE IN OUT
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from hubdpo.data.prepare.shards import CHUNKING

BLOCK = 1 << 20
ROWS_A_GROUP = 3000  # texts: a thousand pairs
SCHEMA = pa.schema([("text", pa.string())])


def chats(rows: list[Any]) -> list[str]:
    return [m["content"] for row in rows for m in row["chosen"]] + [row["rejected"][-1]["content"] for row in rows]


def transcripts(rows: list[Any]) -> list[str]:
    tails = [row["rejected"][row["rejected"].rfind("\n\nAssistant:") :] for row in rows]
    return [row["chosen"] for row in rows] + tails


def question_answers(rows: list[Any]) -> list[str]:
    return [row[name] for name in ("question", "response_j", "response_k") for row in rows]


TEXTS: dict[str, Callable[[list[Any]], list[str]]] = {
    "chats": chats, "transcripts": transcripts, "question-answers": question_answers,
}  # fmt: skip


def blocks(source: str, start: int, stop: int) -> Iterator[list[bytes]]:
    """Give the lines that begin between two bytes, many at a time."""
    with Path(source).open("rb") as stream:
        stream.seek(max(start - 1, 0))
        if start:
            stream.readline()
        while (at := stream.tell()) < stop:
            yield (stream.read(min(BLOCK, stop - at)) + stream.readline()).splitlines()


def convert(shape: str, source: str, start: int, stop: int, target: str) -> None:
    with pq.ParquetWriter(
        target, SCHEMA, compression="snappy", use_dictionary=False, write_page_index=True,
        use_content_defined_chunking=CHUNKING,
    ) as writer:  # fmt: skip
        for lines in blocks(source, start, stop):
            texts = [text.encode() for text in TEXTS[shape](list(map(orjson.loads, lines)))]
            ends = np.zeros(len(texts) + 1, np.int32)
            np.cumsum(np.fromiter(map(len, texts), np.int32, len(texts)), out=ends[1:])
            column = pa.StringArray.from_buffers(len(texts), pa.py_buffer(ends), pa.py_buffer(b"".join(texts)))
            writer.write_batch(pa.RecordBatch.from_arrays([column], schema=SCHEMA), row_group_size=ROWS_A_GROUP)


def main(shape: str, source: str, folder: str) -> None:
    workers = os.cpu_count() or 1
    began = time.perf_counter()
    cuts = [Path(source).stat().st_size * part // workers for part in range(workers + 1)]
    tasks = [
        (shape, source, start, stop, f"{folder}/{part}.parquet")
        for part, (start, stop) in enumerate(zip(cuts, cuts[1:], strict=False))
    ]
    with multiprocessing.get_context("fork").Pool(workers) as pool:
        pool.starmap(convert, tasks)
    sys.stdout.write(f"{time.perf_counter() - began}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
