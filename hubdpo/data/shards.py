"""Write a split as Parquet shards whose number depends on the data alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from hubdpo.data.preference import COLUMNS, PreferenceExample, schema

ROWS_A_GROUP = 1000  # what the Hub's viewer reads at once
BYTES_A_SHARD = 500 * 2**20


class SplitWriter:
    """Append rows to `{split}-xxxxx-of-xxxxx.parquet`; the names are final once `close` knows how many there are."""

    def __init__(self, folder: Path, split: str, keep: list[str]) -> None:
        self.bytes = 0
        self._folder, self._split, self._keep = folder, split, keep
        self._schema = schema(keep)
        self._rows: list[dict[str, Any]] = []
        self._shard_bytes = 0
        self._writers: list[tuple[pq.ParquetWriter, Path]] = []

    def add(self, example: PreferenceExample, row: dict[str, Any]) -> None:
        self._rows.append(
            {name: getattr(example, name) for name in COLUMNS} | {name: _text(row.get(name)) for name in self._keep}
        )
        if len(self._rows) == ROWS_A_GROUP:
            self._flush()

    def close(self) -> None:
        """Finish the files and give them their names."""
        self._flush()
        for number, (writer, path) in enumerate(self._writers):
            writer.close()
            path.rename(self._folder / f"{self._split}-{number:05d}-of-{len(self._writers):05d}.parquet")

    def abandon(self) -> None:
        """Close the files of a run that failed."""
        for writer, _ in self._writers:
            writer.close()

    def _flush(self) -> None:
        if not self._rows:
            return
        table = pa.Table.from_pylist(self._rows, schema=self._schema)
        if not self._writers or self._shard_bytes > BYTES_A_SHARD:
            self._open_shard()
        self._writers[-1][0].write_table(table)
        self._shard_bytes += table.nbytes
        self.bytes += table.nbytes
        self._rows = []

    def _open_shard(self) -> None:
        path = self._folder / f"{self._split}-{len(self._writers):05d}.part"
        writer = pq.ParquetWriter(path, self._schema, compression="zstd", write_page_index=True)
        self._writers.append((writer, path))
        self._shard_bytes = 0


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
