"""Files as people have them: read by their content and not their name, or refused with the cause and what to type."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, DatasetDict

from hubdpo import load_preferences, prepare
from hubdpo.artefacts.manifests.prepare import PrepareManifest
from hubdpo.data.raw import pieces
from hubdpo.data.raw import rows as raw_rows
from hubdpo.data.raw.pieces import PieceReader, cut
from hubdpo.data.raw.raw_file import RawFile
from hubdpo.data.raw.text.delimited import delimiter_of
from hubdpo.data.raw.text.json_layout import Layout
from hubdpo.data.raw.text.json_lists import list_items, object_lists
from hubdpo.errors import DataError
from tests.data.made import lines, rows

ROWS: list[dict[str, Any]] = [
    {"prompt": "Wie geht's, é?", "chosen": "Gut; danke, \"sehr\" gut", "rejected": "Nein"},
    {"prompt": "怎么煮鸡蛋？", "chosen": "水开后煮七分钟。", "rejected": "不知道。"},
    {"prompt": "two\tlines", "chosen": "a } b", "rejected": "[1, {2"},
]  # fmt: skip


def wrapped(**lists: Any) -> bytes:
    return json.dumps(lists, ensure_ascii=False).encode()


def table(delimiter: str, end: str = "\r\n", before: str = "") -> str:
    def quoted(text: str) -> str:
        return '"' + text.replace('"', '""') + '"'

    body = [delimiter.join(map(quoted, row.values())) for row in ROWS]
    return before + end.join([delimiter.join(ROWS[0]), *body]) + end


def arrow(new: Any) -> bytes:
    sink = io.BytesIO()
    columns = pa.Table.from_pylist(ROWS)
    with new(sink, columns.schema) as writer:
        writer.write_table(columns, max_chunksize=2)
    return sink.getvalue()


def make(tmp_path: Path, name: str, data: bytes, **options: Any) -> PrepareManifest:
    (tmp_path / name).write_bytes(data)
    manifest = prepare(source=[str(tmp_path / name)], output_dir=tmp_path / "out", test_size=0, **options)
    assert manifest is not None
    return manifest


def pairs(folder: Path, split: str = "train") -> list[tuple[str, str, str]]:
    found = load_preferences(folder)[split]
    return [(row["prompt"][0]["content"], row["chosen"][0]["content"], row["rejected"][0]["content"]) for row in found]


EXPECTED = [tuple(row.values()) for row in ROWS]
PRETTY = json.dumps(ROWS, indent=1, ensure_ascii=False).encode()
READ = {
    "array.jsonl": json.dumps(ROWS).encode(),
    "pretty-array.jsonl": PRETTY,
    "rows-in-array.jsonl": b"[\n" + b",\n".join(lines(ROWS).splitlines()) + b"\n]\n",
    "bom-array.jsonl": b"\xef\xbb\xbf\n " + PRETTY,
    "lines.json": lines(ROWS),
    "wrapped.json": wrapped(version=[1, "[{"], data=ROWS, note={"a": [{"b": 1}]}),
    "wrapped-lines.jsonl": b'{"data": [\n' + b",\n".join(lines(ROWS).splitlines()) + b"\n]}",
    "lmflow.json": json.dumps({"type": "paired", "instances": ROWS}, indent=2).encode(),
    "one-split.json": wrapped(train=ROWS, test=[]),
    "columns.json": wrapped(**{name: [row[name] for row in ROWS] for name in ROWS[0]}),
    "frame.json": wrapped(**{name: {str(i): row[name] for i, row in enumerate(ROWS)} for name in ROWS[0]}),
    "split.json": wrapped(columns=list(ROWS[0]), index=[0, 1, 2], data=[list(row.values()) for row in ROWS]),
    "keyed.json": wrapped(a=ROWS[0], b=ROWS[1], c=ROWS[2]),
    "commas.jsonl": lines(ROWS).replace(b"}\n", b"}, \n"),
    "text-of-json.jsonl": b"\n".join(json.dumps(json.dumps(row)).encode() for row in ROWS),
    "cr.jsonl": lines(ROWS).replace(b"\n", b"\r"),
    "utf16.jsonl": lines(ROWS).decode().encode("utf-16"),
    "utf32.json": PRETTY.decode().encode("utf-32"),
    "commas.csv": table(",").encode(),
    "excel.csv": table(";").encode("utf-8-sig"),
    "declared.csv": table(";", before="sep=;\r\n").encode("utf-8-sig"),
    "unicode-text.csv": table("\t").encode("utf-16"),
    "tabs.tsv": table("\t", "\n").encode(),
    "commas.tsv": table(",").encode(),
    "bars.csv": table("|").encode(),
    "stream.arrow": arrow(pa.ipc.new_stream),
    "file.arrow": arrow(pa.ipc.new_file),
}  # fmt: skip


@pytest.mark.parametrize("name", READ)
def test_rows_are_found_by_what_is_in_the_file(tmp_path: Path, name: str) -> None:
    manifest = make(tmp_path, name, READ[name])
    assert pairs(tmp_path / "out") == EXPECTED
    assert manifest.funnel.dropped == {}


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "q", "chosen": [{"role": "assistant", "content": "a"}], "rejected": "b"},
        {"instruction": "q", "completions": [{"response": "a", "score": 2}, {"response": "b", "score": 1}]},
    ],
)
def test_one_object_that_is_a_row_is_a_row(tmp_path: Path, row: dict[str, Any], indent: int | None) -> None:
    make(tmp_path, "raw.json", json.dumps(row, indent=indent).encode())
    assert pairs(tmp_path / "out") == [("q", "a", "b")]


def test_lists_called_as_splits_are_the_splits(tmp_path: Path) -> None:
    (tmp_path / "raw.json").write_bytes(wrapped(train=rows(6)[:4], info={}, validation=rows(6)[4:]))
    manifest = prepare(source=str(tmp_path / "raw.json"), output_dir=tmp_path / "out")
    assert manifest is not None
    assert manifest.splits == {"train": 4, "test": 2}
    assert [prompt for prompt, _, _ in pairs(tmp_path / "out", "test")] == ["question 4", "question 5"]


@pytest.mark.parametrize("size", [1, 7, 64, 1 << 20])
def test_lists_are_cut_wherever_blocks_end(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(raw_rows, "BLOCK", size)
    value = {"a": [{"x": '"]},{[\\'}, 7, []], "b": {"c": [{"d": 1}], "e": ",", "a": "b"}, "名": [{}], "f": "g", "h": []}
    text = ("\ufeff" + json.dumps(value, indent=1, ensure_ascii=False)).encode()
    found = [(key, json.loads(item)) for key, item in list_items(io.BytesIO(text), "raw.json", 1000)]
    assert found == [("a", {"x": '"]},{[\\'}), ("a", 7), ("a", []), ("名", {})]
    assert object_lists(io.BytesIO(text), "raw.json", 1000) == {"a": 1, "名": 1}


def test_what_is_passed_over_takes_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raw_rows, "BLOCK", 10)
    text = wrapped(a=[{}], **{f"key {number}": number for number in range(100)}, b=list(range(100)), c={"d": "e" * 90})
    assert list(list_items(io.BytesIO(text), "raw.json", 100))[0] == ("a", b"{}")


def test_an_array_that_ends_behind_an_item_is_cut_off() -> None:
    with pytest.raises(DataError, match="it ends after item 1"):
        list(list_items(io.BytesIO(b'[{"a": 1}, {"a": 2}'), "raw.json", 100))


@pytest.mark.parametrize(("kind", "delimiter"), [(".csv", ","), (".tsv", "\t")])
def test_of_two_delimiters_the_usual_one_is_taken(kind: str, delimiter: str) -> None:
    assert delimiter_of(b"prompt\tchosen,rejected\n", kind) == delimiter


def test_an_object_above_the_limit_is_read_in_a_memory_of_one_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "raw.json").write_bytes(wrapped(data=rows(100)))
    pieces = cut(RawFile(str(tmp_path / "raw.json"), "raw.json", str(tmp_path / "raw.json")), max_line_bytes=1024)
    assert [(piece.layout, piece.key) for piece in pieces] == [(Layout.LISTS, "data")]
    assert [row.value for row in PieceReader(pieces[0], max_line_bytes=1024)] == rows(100)
    assert {row.problem for row in PieceReader(pieces[0], max_line_bytes=40)} == {"line_too_long"}
    monkeypatch.setattr(raw_rows, "BLOCK", 50)
    with pytest.raises(DataError, match="of the array has more than 40 bytes"):
        list(PieceReader(pieces[0], max_line_bytes=40))


def test_nan_and_infinity_are_null_and_counted(tmp_path: Path) -> None:
    values = [{**row, "n": number, "t": "NaN, \"Infinity\""} for row, number in zip(
        rows(4), [float("nan"), float("-inf"), 1.5, float("inf")], strict=True
    )]  # fmt: skip
    data = "\n".join(map(json.dumps, values)).encode()
    manifest = make(tmp_path, "raw.jsonl", data, keep=["n", "t"])
    assert manifest.repaired == {"nan_as_null": 3}
    assert load_preferences(tmp_path / "out")["train"]["n"][:] == [None, None, "1.5", None]
    assert set(load_preferences(tmp_path / "out")["train"]["t"][:]) == {'NaN, "Infinity"'}


@pytest.mark.parametrize("name", ["commas.jsonl", "cr.jsonl"])
def test_rows_put_right_are_counted_and_told(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = make(tmp_path, name, READ[name])
    assert manifest.repaired == ({"trailing_comma": 3} if name == "commas.jsonl" else {})
    told = "put right: trailing_comma" if name == "commas.jsonl" else "CR at the ends"
    assert told in capsys.readouterr().err


def test_what_is_wrong_with_a_line_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(tmp_path, "raw.jsonl", lines(rows(3)) + b'{"prompt": SECRET}\n')
    loss = json.loads((tmp_path / "out" / "rejected.jsonl").read_text())
    assert (loss["line"], loss["reason"]) == (4, "malformed_line")
    assert "at column 12" in loss["detail"]
    assert "SECRET" not in loss["detail"]
    prepare(source=str(tmp_path / "raw.jsonl"), output_dir=tmp_path / "shown", explain=4)
    assert "dropped: malformed_line, " in capsys.readouterr().err


def test_few_lines_that_are_not_utf8_are_counted_as_such(tmp_path: Path) -> None:
    data = lines([*rows(5), *ROWS[1:2]]) + '{"prompt": "é", "chosen": "a", "rejected": "b"}\n'.encode("latin-1")
    assert make(tmp_path, "raw.jsonl", data).funnel.dropped == {"not_utf8": 1}


CHINESE = lines([{**ROWS[1], "prompt": f"怎么煮第{i}个鸡蛋？"} for i in range(40)]).decode()
FRENCH = lines([{"prompt": f"Où est l'été {i} ?", "chosen": "Là-bas", "rejected": "Ça"} for i in range(40)]).decode()
PLAIN = json.dumps(rows(9)).encode()
DECEASED = lines([{"prompt": "le règne décède"}] * 9).decode()
EGG = json.dumps(ROWS[1:2] * 40, ensure_ascii=False)
REFUSED = {
    # file: data, what is said, what to type
    "gb.jsonl": (CHINESE.encode("gb18030"), "not UTF-8 but perhaps gb18030", "--encoding gb18030"),
    "latin.jsonl": (FRENCH.encode("latin-1"), "not UTF-8 but perhaps windows-1252", "--encoding windows-1252"),
    "letters.jsonl": (DECEASED.encode("latin-1"), "windows-1252", "--encoding windows-1252"),
    "gb.json": (EGG.encode("gb18030"), "perhaps gb18030", "--encoding gb18030"),
    "latin.csv": ("prompt,chosen,rejected\na,é,c\n".encode("latin-1"), "not UTF-8 but.*at line", "--encoding windows"),
    "nomark.jsonl": (FRENCH.encode("utf-16-le"), "UTF-16LE without a byte order mark", "--encoding utf-16le"),
    "cut.jsonl": (FRENCH.encode("utf-16")[:-1], "the UTF-16 of cut.jsonl is broken", "UTF-8"),
    "two.json": (wrapped(good=rows(2), poor=rows(1)), "several lists of objects: `good`", "--rows good or --rows p"),
    "deep.json": (wrapped(data={"my rows": rows(2)}), "nested deeper", "--rows 'data.my rows'"),
    "rows.jsonl.bz2": (b"BZh9", "cannot read this kind of file", "bunzip2 -k rows.jsonl.bz2"),
    "rows.jsonl.xz": (b"\xfd7zXZ", "cannot read this kind of file", "xz -dk rows.jsonl.xz"),
    "rows.zip": (b"PK\x03\x04", "cannot read this kind of file", "unzip rows.zip"),
    "rows.tar.gz": (b"\x1f\x8b\x08", "cannot read this kind of file", "tar -xkf rows.tar.gz"),
    "book.xlsx": (b"PK\x03\x04", "cannot read this kind of file", "pandas.read_excel"),
    "quotes.jsonl": (b"{'prompt': 'q', 'chosen': 'a', 'rejected': 'b'}\n", "quotes of a Python dict", "literal_eval"),
    "jq.jsonl": (b"\n".join(json.dumps(row, indent=1).encode() for row in rows(3)), "several lines each", "jq -c ."),
    "cut.json": (json.dumps({"data": rows(3)}, indent=1).encode()[:-9], "not JSON: cut.json: .* at line", "per line"),
    "lfs.jsonl": (b"version https://git-lfs.github.com/spec/v1\n", "pointer of Git LFS", "git lfs pull"),
    "page.json": (b"\n<!DOCTYPE html><html>", "a web page", "download"),
    "book.csv": (b"PK\x03\x04\0\0\0\0\0\x01", "an Excel workbook, not .csv", "hubdpo reads"),
    "packed.jsonl": (b"\x1f\x8b\x08\0\0\0\0\0", "its name lacks .gz", "packed.jsonl.gz"),
    "plain.jsonl.gz": (b'{"prompt": "q"}', "is not packed, though its name says so", "plain.jsonl"),
    "plain.csv.zst": (b"prompt,chosen,rejected\nq,a,b\nr,a,b\n", "is not packed, though its name says so", "plain.csv"),
    "cut.arrow": (arrow(pa.ipc.new_stream)[:200], "the Arrow file is broken: cut.arrow", "download"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_is_refused_with_its_cause(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data, message, hint = REFUSED[name]
    with pytest.raises(DataError, match=message) as caught:
        make(tmp_path, name, data)
    assert hint in (caught.value.hint or "")
    assert not (tmp_path / "out").exists()


def test_lines_whose_first_is_an_array_stay_lines(tmp_path: Path) -> None:
    assert make(tmp_path, "two.jsonl", b'{"prompt": "q", "x":\n' + lines(rows(1))).funnel.dropped == {
        "malformed_line": 1
    }
    for first in (b"[1]\n", b"[broken\n", b"{broken\n", b'{"a": [\n', b'{"prompt": "x",\n'):
        manifest = make(tmp_path, "raw.jsonl", first + lines(rows(3)))
        assert (manifest.funnel.kept, sum(manifest.funnel.dropped.values())) == (3, 1), first


def test_a_first_line_above_the_limit_is_one_loss(tmp_path: Path) -> None:
    data = lines([{"prompt": "x" * 3000}]) + lines(rows(3))
    assert make(tmp_path, "raw.jsonl", data, max_line_bytes=2000).funnel.dropped == {"line_too_long": 1}


def test_folders_that_datasets_saved_are_read_by_their_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved = DatasetDict(train=Dataset.from_list(rows(6)[:4]), test=Dataset.from_list(rows(6)[4:]))
    saved.save_to_disk(tmp_path / "saved")
    (tmp_path / "saved" / "train" / "cache-1234.arrow").write_bytes(arrow(pa.ipc.new_stream))
    manifest = prepare(source=str(tmp_path / "saved"), output_dir=tmp_path / "out")
    assert manifest is not None
    assert manifest.splits == {"train": 4, "test": 2}
    assert "skipped in" in capsys.readouterr().err


def test_losses_of_a_list_are_named_by_their_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "PIECE_BYTES", 100)
    make(tmp_path, "raw.json", wrapped(data=[*rows(20), 5, *rows(22)[20:]]), num_proc=2)
    loss = json.loads((tmp_path / "out" / "rejected.jsonl").read_text())
    assert (loss["line"], loss["reason"]) == (21, "not_an_object")


@pytest.mark.parametrize("kind", ["csv", "parquet", "arrow"])
def test_a_column_that_a_table_has_twice_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"x.{kind}"
    table = pa.table([["q"], ["good"], ["other"], ["bad"]], names=["prompt", "chosen", "chosen", "rejected"])
    if kind == "csv":
        path.write_text("prompt,chosen,chosen,rejected\nq,good,other,bad\n")
    elif kind == "parquet":
        pq.write_table(table, path)
    else:
        with pa.ipc.new_file(path, table.schema) as writer:
            writer.write_table(table)
    with pytest.raises(DataError, match=rf"two columns `chosen` in x.{kind}"):
        prepare(source=[str(path)], output_dir=tmp_path / "d")


def test_a_member_that_a_struct_has_twice_is_refused(tmp_path: Path) -> None:
    twice = pa.StructArray.from_arrays([pa.array(["user"]), pa.array(["q"])], names=["role", "role"])
    pq.write_table(pa.table([twice, ["a"], ["b"]], names=["prompt", "chosen", "rejected"]), tmp_path / "x.parquet")
    with pytest.raises(DataError, match="two columns `role` in `prompt` of x.parquet"):
        prepare(source=[str(tmp_path / "x.parquet")], output_dir=tmp_path / "d")


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_nan_in_a_table_is_null_wherever_it_stands(tmp_path: Path, bad: float) -> None:
    table = [
        {
            "prompt": f"q{n}", "chosen": [{"role": "assistant", "content": "a", "weight": weight}],
            "rejected": [{"role": "assistant", "content": "b"}], "score_chosen": score, "score_rejected": 1.0,
            "system": bad,
        }
        for n, (weight, score) in enumerate([(bad, 2.0), (1.0, bad), (1.0, 2.0)])
    ]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(table), tmp_path / "raw.parquet")
    manifest = prepare(source=str(tmp_path / "raw.parquet"), output_dir=tmp_path / "out", test_size=0)
    assert manifest is not None
    assert manifest.funnel.kept == 3
    assert (manifest.repaired, manifest.unused_columns) == ({"nan_as_null": 3}, {"score_rejected": 1})


def test_rows_of_a_table_that_are_shorter_are_broken(tmp_path: Path) -> None:
    data = wrapped(columns=list(ROWS[0]), index=[0, 1], data=[list(ROWS[0].values()), ["a"]])
    assert make(tmp_path, "raw.json", data).funnel.dropped == {"malformed_line": 1}


def test_a_row_of_messages_is_no_table(tmp_path: Path) -> None:
    messages = {
        name: [{"role": role, "content": name}]
        for name, role in zip(ROWS[0], ("user", "assistant", "assistant"), strict=True)
    }
    make(tmp_path, "raw.json", json.dumps(messages).encode())
    assert pairs(tmp_path / "out") == [("prompt", "chosen", "rejected")]


@pytest.mark.parametrize("keyed", [True, False])
def test_a_table_of_described_columns_is_one(tmp_path: Path, keyed: bool) -> None:
    names = dict(zip(ROWS[0], ("ask", "well", "poorly"), strict=True))
    own = [{names[name]: value for name, value in row.items()} for row in ROWS]
    value = {f"id{n}": row for n, row in enumerate(own)} if keyed else {n: [row[n] for row in own] for n in own[0]}
    make(tmp_path, "raw.json", json.dumps(value).encode(), **names)
    assert pairs(tmp_path / "out") == EXPECTED
