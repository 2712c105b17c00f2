"""Files of a few kilobytes that unpack to gigabytes are refused in one line, within a gigabyte of memory."""

from __future__ import annotations

import gzip
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from hubdpo import prepare
from hubdpo.data.raw import expansion
from hubdpo.data.raw.expansion import Budget, batch_rows, rows_within, unpacked_sizes
from hubdpo.data.raw.tables import arrow_blocks, parquet_blocks, row_groups
from hubdpo.errors import DataError
from tests.data.made import contents, lines, rows

RUN = """
import pathlib, sys
from hubdpo.cli.app import main
sys.argv[1:] = ["prepare", sys.argv[1], "-o", "out", "--num-proc", "1"]
try:
    main()
finally:
    status = pathlib.Path("/proc/self/status")  # what getrusage tells begins with the peak of the process before
    print("peak", status.read_text().partition("VmHWM:")[2].split()[0] if status.exists() else 0, file=sys.stderr)
"""
GIGABYTE = 1_000_000
"""In kB."""


def parquet(path: Path, table: pa.Table, *, groups: int = 1, **options: Any) -> None:
    with pq.ParquetWriter(path, table.schema, **options) as writer:
        for _ in range(groups):
            writer.write_table(table, row_group_size=len(table))


def texts(count: int, size: int) -> pa.Table:
    return pa.table({"prompt": ["x" * size] * count, "chosen": ["a"] * count, "rejected": ["b"] * count})


def one_text(count: int) -> pa.Table:
    column = pa.DictionaryArray.from_arrays(pa.array([0] * count, pa.int32()), ["x" * 900_000])
    return pa.table({"prompt": column, "chosen": ["a"] * count, "rejected": ["b"] * count})


def said_once(path: Path) -> None:
    """A long text in a dictionary, and many rows of it: the footer tells of no more than the dictionary."""
    parquet(path, one_text(5000), compression="zstd", store_schema=False)


def read_as_a_dictionary(path: Path) -> None:
    parquet(path, one_text(5000), compression="zstd")


def written_out(path: Path) -> None:
    parquet(path, texts(100, 1_000_000), compression="zstd", use_dictionary=False)


def many_groups(path: Path) -> None:
    parquet(path, texts(10, 500_000), groups=50, compression="zstd", use_dictionary=False)


def long_list(path: Path) -> None:
    column = pa.ListArray.from_arrays([0, 20_000_000], pa.nulls(20_000_000, pa.int8()))
    parquet(path, pa.table({"prompt": ["p"], "chosen": ["a"], "rejected": ["b"], "ids": column}))


def empty_rows(path: Path) -> None:
    parquet(path, pa.table({"prompt": pa.nulls(2_000_000, pa.string())}))


def arrow(path: Path, table: pa.Table) -> None:
    with pa.ipc.new_file(path, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_table(table)


def packed_arrow(path: Path) -> None:
    arrow(path, texts(100, 1_000_000))


def shared_arrow(path: Path) -> None:
    arrow(path, one_text(5000))


def packed_lines(path: Path) -> None:
    pack = gzip.compress if path.suffix == ".gz" else zstandard.compress
    path.write_bytes(pack(b'{"prompt": "' + b"x" * 70_000_000 + b'"}\n'))


@pytest.mark.parametrize(
    ("make", "ending"),
    [
        (said_once, ".parquet"), (read_as_a_dictionary, ".parquet"),
        (written_out, ".parquet"), (many_groups, ".parquet"), (long_list, ".parquet"),
        (empty_rows, ".parquet"), (packed_arrow, ".arrow"), (shared_arrow, ".arrow"), (packed_lines, ".jsonl.gz"),
        (packed_lines, ".jsonl.zst"),
    ],
)  # fmt: skip
def test_what_unpacks_too_far_is_refused(tmp_path: Path, make: Callable[[Path], None], ending: str) -> None:
    make(tmp_path / f"x{ending}")
    done = subprocess.run(
        [sys.executable, "-c", RUN, f"x{ending}"], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 3, done.stderr
    assert f"unpacks to more than {200 if 'jsonl' in ending else '1,000'} times its size: x{ending}" in done.stderr
    assert "hint: " in done.stderr
    assert int(done.stderr.rpartition("peak ")[2]) < GIGABYTE
    assert list(contents(tmp_path)) == [f"x{ending}"]


def test_a_table_that_says_much_once_is_read(tmp_path: Path) -> None:
    values = [{**row, "prompt": f"{number % 3} " + "a long prompt " * 5000} for number, row in enumerate(rows(900))]
    pq.write_table(pa.Table.from_pylist(values), tmp_path / "x.parquet", compression="zstd")
    assert sum(len(row["prompt"]) for row in values) > 400 * (tmp_path / "x.parquet").stat().st_size
    manifest = prepare(source=str(tmp_path / "x.parquet"), output_dir=tmp_path / "out")
    assert manifest is not None
    assert manifest.funnel.kept == 900


@pytest.mark.parametrize("group", [7, 500, 5000])
@pytest.mark.parametrize("limit", [1, 2_000, 2**28])
def test_rows_are_the_same_however_few_are_decoded_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, group: int, limit: int
) -> None:
    monkeypatch.setattr(expansion, "BATCH_BYTES", limit)
    values = [{**row, "turns": [{"role": "user", "content": str(i)}] * (i % 3)} for i, row in enumerate(rows(3000))]
    pq.write_table(pa.Table.from_pylist(values), tmp_path / "x.parquet", row_group_size=group)
    found, at = [], 0
    for number in range(row_groups(str(tmp_path / "x.parquet"), "x")):
        blocks = list(parquet_blocks(str(tmp_path / "x.parquet"), "x", number))
        given = [line for block in blocks for line in block.lines]
        assert given == list(range(1, len(given) + 1))
        found += [row for block in blocks for row in block.values]
        at += len(given)
    assert found == values
    assert at == 3000


def test_the_size_of_a_dictionary_is_read_from_its_page(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    for size, expected in ((1000, 256), (20_000_000, 13)):
        parquet(path, texts(3, size), compression="zstd", dictionary_pagesize_limit=2**30)
        with path.open("rb") as stream:
            assert batch_rows(pq.ParquetFile(path).metadata, 0, stream) == expected


def test_groups_that_claim_the_same_bytes_are_refused() -> None:
    class Footer:
        """A footer as pyarrow gives it, of groups that each take the whole file."""

        num_row_groups = 2
        num_columns, num_rows, total_compressed_size, total_uncompressed_size, num_values = 1, 1, 100, 100, 1

        def row_group(self, _: int) -> Footer:
            return self

        column = row_group

    with pytest.raises(DataError, match="take more bytes than the file has"):
        expansion.check_footer(Footer(), 150, "x")


def test_values_that_lie_in_memory_once_count_each_time() -> None:
    text = pa.DictionaryArray.from_arrays(pa.array([0] * 100, pa.int8()), ["x" * 1_000_000])
    for column in (text, pa.StructArray.from_arrays([text], ["a"]), pa.ListArray.from_arrays([0, 100], text)):
        batch = pa.RecordBatch.from_arrays([column], ["c"])
        with pytest.raises(DataError, match="unpacks to more"):
            list(rows_within(batch, Budget(99_000_000, "x", 1), 1024))
        assert sum(part.num_rows for part in rows_within(batch, Budget(120_000_000, "x", 1), 1024)) == len(column)


def test_long_rows_come_apart_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expansion, "BATCH_BYTES", 50)
    batch = pa.RecordBatch.from_pydict({"a": [str(number) * 10 for number in range(10)]})
    parts = list(rows_within(batch, Budget(10**6, "x", 1), 8))
    assert len(parts) > 4
    assert [row for part in parts for row in part.to_pylist()] == batch.to_pylist()


@pytest.mark.parametrize("packing", [None, "zstd", "lz4"])
@pytest.mark.parametrize("form", [pa.ipc.new_file, pa.ipc.new_stream])
def test_the_size_of_packed_batches_is_told_before_they_are_unpacked(
    tmp_path: Path, packing: str | None, form: Callable[..., Any]
) -> None:
    path, table = tmp_path / "x.arrow", one_text(100)
    with form(path, table.schema, options=pa.ipc.IpcWriteOptions(compression=packing)) as writer:
        for _ in range(2):
            writer.write_table(table)
    with pa.memory_map(str(path)) as source:
        sizes = list(unpacked_sizes(source, is_file=form is pa.ipc.new_file))
    assert [round(size, -5) for size in sizes] == [0, 900_000, 0, 0]  # the schema, the dictionary, two batches
    assert sizes[2] >= 100 * (4 + 5 + 5)  # indices, and two columns of a letter a row


def test_arrow_is_refused_before_it_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed_arrow(tmp_path / "x.arrow")
    monkeypatch.setattr(pa.ipc, "open_file", None)
    with pytest.raises(DataError, match="unpacks to more"):
        list(arrow_blocks(str(tmp_path / "x.arrow"), "x.arrow"))


def test_text_that_packs_well_is_read(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl.gz").write_bytes(gzip.compress(lines(rows(5000))))
    manifest = prepare(source=str(tmp_path / "x.jsonl.gz"), output_dir=tmp_path / "out")
    assert manifest is not None
    assert manifest.funnel.kept == 5000
