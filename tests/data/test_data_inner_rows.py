"""Rows inside a list: of one JSON object, or of each row, whose other columns stand beside each item."""

from __future__ import annotations

import io
import json
import shlex
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hubdpo import prepare
from hubdpo.data.raw.inner_rows import find_path
from hubdpo.data.raw.pieces import PieceReader, RawRow, cut
from hubdpo.data.raw.raw_file import RawFile
from hubdpo.errors import DataError
from tests.data.made import lines, rows

DEEP = {"version": 2, "about": {"by": "us"}, "data": {"items": rows(3)}}
NESTED: list[dict[str, Any]] = [
    {"id": i, "task": {"topic": "t", "pairs": [{"prompt": f"q{i}{j}", "id": f"own {j}"} for j in range(2)]}}
    for i in range(3)
]
BESIDE = [{"id": f"own {j}", "task": {"topic": "t"}, "prompt": f"q{i}{j}"} for i in range(3) for j in range(2)]


def read(tmp_path: Path, name: str, data: bytes, path: str) -> list[RawRow]:
    (tmp_path / name).write_bytes(data)
    file = RawFile(str(tmp_path / name), name, str(tmp_path / name))
    return [row for piece in cut(file, rows=path) for row in PieceReader(piece, max_line_bytes=1 << 20)]


def parquet(values: list[Any]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(values), sink)
    return sink.getvalue()


@pytest.mark.parametrize("name", ["raw.json", "raw.jsonl"])
@pytest.mark.parametrize("path", ["data.items", "data.0.items", "da.ta"])
def test_rows_are_the_list_inside_one_object(tmp_path: Path, name: str, path: str) -> None:
    data = {"data.items": DEEP["data"], "data.0.items": [DEEP["data"]], "da.ta": rows(3)}[path]
    value = {"version": 2, "about": {"by": "us"}, "da.ta" if path == "da.ta" else "data": data}
    found = read(tmp_path, name, json.dumps(value, indent=1).encode(), path)
    assert [row.value for row in found] == [{"version": 2, **row} for row in rows(3)]
    assert [row.line for row in found] == [1, 2, 3]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("raw.jsonl", lines(NESTED)),
        ("raw.json", json.dumps(NESTED).encode()),
        ("raw.parquet", parquet(NESTED)),
        ("text.jsonl", lines([{**row, "task": json.dumps(row["task"])} for row in NESTED])),
    ],
)
def test_other_columns_of_a_row_stand_beside_each_item_of_its_list(tmp_path: Path, name: str, data: bytes) -> None:
    found = read(tmp_path, name, data, "task.pairs")
    assert [row.value for row in found] == BESIDE
    assert [row.line for row in found] == [1, 1, 2, 2, 3, 3]


def test_a_file_of_one_line_is_a_row_with_all_its_columns(tmp_path: Path) -> None:
    assert [row.value for row in read(tmp_path, "raw.jsonl", lines(NESTED[:1]), "task.pairs")] == BESIDE[:2]


def test_an_item_that_is_no_object_stands_in_place_of_the_list(tmp_path: Path) -> None:
    value = {"prompt": "q", "of": {"pairs": [["good", "bad"], ["well", "badly"]]}}
    found = read(tmp_path, "raw.jsonl", lines([value] * 2), "of.pairs")
    assert [row.value for row in found[:2]] == [
        {"prompt": "q", "of": {"pairs": ["good", "bad"]}}, {"prompt": "q", "of": {"pairs": ["well", "badly"]}}
    ]  # fmt: skip


def test_rows_without_a_list_are_broken_and_counted(tmp_path: Path) -> None:
    values = [{"a": [{"b": 1}]}, {"a": []}, {"a": {"c": 1}}, {"c": 1}, {"a": "text"}]
    found = read(tmp_path, "raw.jsonl", lines(values), "a")
    assert [(row.line, row.problem, row.detail) for row in found[1:]] == [
        (2, "no_list", "`a` is an empty list"), (3, "no_list", "`a` is an object"), (4, "no_list", "`a` is missing"),
        (5, "no_list", "`a` is a text"),
    ]  # fmt: skip


def test_a_path_that_leads_nowhere_is_refused_with_the_lists_there_are(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no list at `data.rows`") as caught:
        read(tmp_path, "raw.json", json.dumps(DEEP).encode(), "data.rows")
    assert caught.value.hint == "--rows data.items"


def test_a_key_with_dots_is_found_before_a_path() -> None:
    value = {"a.b": {"c": 1}, "a": {"b": {"c": 2}, "d": ["e", '{"f": 3}']}}
    assert [find_path(value, path) for path in ("a.b.c", "a.d.1.f", "a.d.2", "a.x")] == [
        (["a.b", "c"], 1), (["a", "d", 1, "f"], 3), ([], None), ([], None)
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["deep.json", "two.json"])
def test_the_list_that_the_error_names_is_read(tmp_path: Path, name: str) -> None:
    value = {"deep.json": DEEP, "two.json": {"rows of a": rows(3), "b": rows(2)}}[name]
    (tmp_path / name).write_text(json.dumps(value))
    with pytest.raises(DataError, match="nested deeper|several lists") as caught:
        prepare(source=str(tmp_path / name), output_dir=tmp_path / "out")
    path = shlex.split(str(caught.value.hint))[1]
    assert prepare(source=str(tmp_path / name), output_dir=tmp_path / "out", rows=path).funnel.read == 3
