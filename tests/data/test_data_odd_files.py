"""Files that are seldom seen: of an unknown kind, answers of the Hub's API, selections of early `datasets`."""

from __future__ import annotations

import gzip
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from hubdpo import prepare
from hubdpo.data.prepare.dropped import unreadable
from hubdpo.data.raw.pieces import Piece
from hubdpo.data.raw.raw_file import RawFile
from hubdpo.data.raw.text.json_layout import Layout, is_page
from hubdpo.errors import DataError
from tests.data.made import lines, rows
from tests.data.test_data_files import EXPECTED, PRETTY, ROWS, arrow, make, pairs, table, wrapped

UNKNOWN = {
    # file: data, what to type
    "unicode.txt": (table("\t").encode("utf-16"), "cp unicode.txt unicode.tsv"),
    "marked.txt": (table("\t").encode("utf-8-sig"), "cp marked.txt marked.tsv"),
    "nomark.tab": (table("\t").encode("utf-16-le"), "cp nomark.tab nomark.tsv"),
    "commas.txt": (table(",").encode(), "cp commas.txt commas.csv"),
    "excel.data": (table(";").encode("gb18030"), "cp excel.data excel.csv"),
    "lines.txt": (lines(ROWS), "cp lines.txt lines.jsonl"),
    "no ending": (lines(ROWS), "cp 'no ending' 'no ending.jsonl'"),
    "array.txt": (PRETTY, "cp array.txt array.json"),
    "chinese.txt": (("问题\t答案\n" + "怎么煮鸡蛋\t七分钟\n" * 9).encode("utf-16"), "cp chinese.txt chinese.tsv"),
    "long.txt": (b"prompt\tchosen\n" + (b"a" * 9_000 + b"\tb\n") * 9, "cp long.txt long.tsv"),
    "arrow.bin": (arrow(pa.ipc.new_file), "cp arrow.bin arrow.arrow"),
    "prose.txt": (b"Dear all,\nthis is, well, prose.\n", "hubdpo prepare --help"),
    "word.txt": (b"prose\n", "hubdpo prepare --help"),
    "zeros.bin": (b"\0\1\2\3" * 9, "hubdpo prepare --help"),
    "text.txt.gz": (gzip.compress(table("\t").encode()), "hubdpo prepare --help"),
}  # fmt: skip


@pytest.mark.parametrize("name", UNKNOWN)
def test_a_name_that_tells_no_kind_is_refused_with_one_that_fits(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data, hint = UNKNOWN[name]
    with pytest.raises(DataError, match="cannot read this kind of file") as caught:
        make(tmp_path, name, data)
    assert (caught.value.hint or "").startswith(hint)
    command = shlex.split(hint)
    if command[0] == "cp" and name in (
        "unicode.txt",
        "marked.txt",
        "commas.txt",
        "no ending",
        "array.txt",
        "arrow.bin",
    ):
        make(tmp_path, command[2], data)
        assert pairs(tmp_path / "out") == EXPECTED


def page(count: int, *, cut: Sequence[int] = (), **more: Any) -> bytes:
    items = [
        {"row_idx": i, "row": row, "truncated_cells": ["chosen"] if i in cut else []}
        for i, row in enumerate(rows(count))
    ]
    return json.dumps({"features": [{"feature_idx": 0, "name": "prompt"}], "rows": items, **more}).encode()


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"num_rows_total": 5, "partial": False}, None), ({"num_rows_total": 7000}, "holds 5 of 7,000 rows"),
        ({"truncated": True, "split": "train"}, "holds 5 rows of"), ({"truncated": False}, None),
    ],
)  # fmt: skip
def test_rows_that_the_api_of_the_hub_gave_are_read(
    tmp_path: Path, more: dict[str, Any], told: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = make(tmp_path, "raw.json", page(5, cut=[1], **more))
    assert [prompt for prompt, _, _ in pairs(tmp_path / "out")] == [f"question {i}" for i in (0, 2, 3, 4)]
    assert manifest.funnel.dropped == {"truncated_cells": 1}
    loss = json.loads((tmp_path / "out" / "rejected.jsonl").read_text())
    assert (loss["line"], loss["detail"]) == (2, "the Hub's API cut chosen")
    err = " ".join(capsys.readouterr().err.split())
    assert "the rows are the 5 that the Hub's API gave" in err
    assert (told or "of a dataset") in err if told else "of a dataset" not in err


def test_rows_that_are_all_cut_are_refused_with_the_way_to_whole_ones(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="item 1 is the first: truncated_cells") as caught:
        make(tmp_path, "raw.json", page(2, cut=[0, 1]))
    assert "hf://datasets/USER/NAME" in (caught.value.hint or "")


def test_a_list_of_which_no_item_can_be_read_is_refused_with_the_way_to_its_first(tmp_path: Path) -> None:
    (tmp_path / "raw.json").write_bytes(wrapped(data=[{"a": 1}, {"b": 2}]))
    file = RawFile(str(tmp_path / "raw.json"), "raw.json", "raw.json")
    problem = unreadable([Piece(file, 0, 0, "data", Layout.LISTS)], 3)
    assert problem is not None
    assert problem.hint == "--max-line-bytes 30"
    (tmp_path / "raw.json").write_bytes(b'{"data": [1, 2]}')
    problem = unreadable([Piece(file, 0, 0, "data", Layout.LISTS)], 99)
    assert problem is not None
    assert problem.hint == """jq '.["data"][0]' raw.json"""


@pytest.mark.parametrize(
    "value",
    [
        {"rows": [{"row": 1}], "features": []},
        {"rows": [{"row": {"a": 1}}], "features": 1},
        {"rows": [], "features": []},
    ],
)
def test_other_objects_with_rows_are_no_answer_of_the_hub(value: dict[str, Any]) -> None:
    assert not is_page(value)


@pytest.mark.parametrize("state", [{"_indices_data_files": [{"filename": "indices.arrow"}]},
                                   {"_indices_files": [{"filename": "numbers.arrow"}]},
                                   {"_indices_data_files": ["indices.arrow"]}, None])  # fmt: skip
def test_a_selection_of_early_datasets_is_refused_with_the_command_that_makes_it(
    tmp_path: Path, state: dict[str, Any] | None
) -> None:
    folder = tmp_path / "saved"
    folder.mkdir()
    name = "numbers.arrow" if state and "_indices_files" in state else "indices.arrow"
    for file, saved in (("dataset.arrow", pa.Table.from_pylist(ROWS)), (name, pa.table({"indices": [2, 0]}))):
        with pa.ipc.new_stream(str(folder / file), saved.schema) as writer:
            writer.write_table(saved)
    if state:
        (folder / "state.json").write_text(json.dumps(state))
    for source in (folder, folder / "dataset.arrow"):
        with pytest.raises(DataError, match=f"the folder saved selects rows of its data by {name}") as caught:
            prepare(source=str(source), output_dir=tmp_path / "out")
    if state is not None:
        return
    own = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}  # the python with `datasets`
    subprocess.run(caught.value.hint or "", shell=True, check=True, cwd=tmp_path, env=own)
    prepare(source=str(tmp_path / "saved-selected.parquet"), output_dir=tmp_path / "out", test_size=0)
    assert pairs(tmp_path / "out") == [EXPECTED[2], EXPECTED[0]]


@pytest.mark.parametrize(
    "state", [{"_indices_data_files": []}, {"_indices_files": None}, {"_data_files": [1]}, [], "{"]
)
def test_a_folder_that_selects_nothing_is_read(tmp_path: Path, state: Any) -> None:
    (tmp_path / "state.json").write_text(state if isinstance(state, str) else json.dumps(state))
    make(tmp_path, "dataset.arrow", arrow(pa.ipc.new_stream))
    assert pairs(tmp_path / "out") == EXPECTED
