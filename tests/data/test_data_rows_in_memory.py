"""Rows in memory as a source: lists of dicts, datasets, frames and tables, read as files of the same rows are."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from datasets import Dataset, DatasetDict

from hubdpo import load_preferences, prepare
from hubdpo.artefacts.formats.messages import COLUMNS
from hubdpo.artefacts.manifests.prepare import PrepareManifest
from hubdpo.errors import ConfigError, DataError
from tests.data.made import lines, rows


class PolarsFrame:
    """What hubdpo uses of a polars DataFrame, whose texts are `large_string`."""

    columns = property(lambda self: list(self._values[0]))

    def __init__(self, values: list[dict[str, Any]]) -> None:
        self._values = values

    def to_arrow(self) -> pa.Table:
        table = pa.Table.from_pylist(self._values)
        return table.cast(pa.schema([(name, pa.large_string()) for name in table.column_names]))


DICTS: dict[str, Callable[[list[dict[str, Any]]], Any]] = {
    "iterator": iter,
    "IterableDataset": lambda values: Dataset.from_list(values).to_iterable_dataset(),
    "Series of dicts": pd.Series,
}
TABLES: dict[str, Callable[[list[dict[str, Any]]], Any]] = {
    "Dataset": Dataset.from_list,
    "pandas": pd.DataFrame,
    "pandas, indexed": lambda values: pd.DataFrame(values, index=[f"row {i}" for i in range(len(values))]),
    "polars": PolarsFrame,
    "pyarrow": pa.Table.from_pylist,
    "record batch": pa.RecordBatch.from_pylist,
    "reader": lambda values: pa.Table.from_pylist(values).to_reader(max_chunksize=7),
    "Dataset, shuffled back": lambda values: Dataset.from_list(values[::-1]).select(range(len(values))[::-1]),
    "chunks": lambda values: pa.concat_tables([pa.Table.from_pylist(values[:7]), pa.Table.from_pylist(values[7:])]),
}


def made(source: Any, folder: Path, **options: Any) -> PrepareManifest:
    manifest = prepare(source, folder, **options)
    assert manifest is not None
    return manifest


def texts(folder: Path) -> list[Any]:
    return [[row[name][-1]["content"] for name in COLUMNS] for row in load_preferences(folder)["train"].to_list()]


def test_a_list_of_dicts_gives_what_a_file_of_them_gives(tmp_path: Path) -> None:
    (tmp_path / "raw.jsonl").write_bytes(lines(rows(40)))
    from_file = made(str(tmp_path / "raw.jsonl"), tmp_path / "file")
    from_memory = made(rows(40), tmp_path / "memory")
    assert from_memory.splits == from_file.splits
    assert texts(tmp_path / "memory") == texts(tmp_path / "file")
    assert [(source.name, source.read) for source in from_memory.sources] == [("rows in memory", 40)]


@pytest.mark.parametrize("kind", TABLES)
def test_equal_rows_give_equal_folders_from_any_kind_of_table(kind: str, tmp_path: Path) -> None:
    first = made(pa.Table.from_pylist(rows(40)), tmp_path / "pyarrow")
    again = made(TABLES[kind](rows(40)), tmp_path / "again")
    assert again.fingerprint == first.fingerprint
    assert again.files == first.files


@pytest.mark.parametrize("kind", DICTS)
def test_equal_dicts_give_equal_folders_however_they_come(kind: str, tmp_path: Path) -> None:
    assert made(DICTS[kind](rows(40)), tmp_path / "again").files == made(rows(40), tmp_path / "list").files


def test_the_same_rows_are_up_to_date_and_others_are_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = made(rows(20), tmp_path / "out")
    assert made(rows(20), tmp_path / "out") == first
    assert "is up to date" in capsys.readouterr().err
    assert made(rows(21), tmp_path / "out").fingerprint != first.fingerprint


@pytest.mark.parametrize("split", [Dataset.from_list, list, iter], ids=["DatasetDict", "dict of lists", "of iterators"])
def test_the_splits_of_a_dict_stay(split: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    splits = {"train": split(rows(30)[:24]), "validation": split(rows(30)[24:])}
    manifest = made(DatasetDict(splits) if split is Dataset.from_list else splits, tmp_path / "out")
    assert manifest.published_split
    assert manifest.splits == {"train": 24, "test": 6}
    assert [source.name for source in manifest.sources] == ["rows in memory (train)", "rows in memory (validation)"]
    assert "`test` has the rows of `validation`" in capsys.readouterr().err
    card = (tmp_path / "out" / "README.md").read_text()
    assert "as a dict of the splits `train`, `validation`, such as a `DatasetDict`" in card


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (("foo", "bar"), "`foo`, `bar` of `source` name neither train nor test rows: all rows are read together"),
        (("train", "bar"), "`bar` of `source` names neither train nor test rows: all rows are read together"),
        (("test", "bar"), "`bar` of `source` names neither train nor test rows: their rows join `train`"),
        (("foo",), ""),
        (("train", "dev"), ""),
    ],
)
def test_names_that_are_no_splits_are_told(
    names: tuple[str, ...], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made({name: rows(40)[9 * number :][:9] for number, name in enumerate(names)}, tmp_path / "out")
    said = capsys.readouterr().err
    assert told in said if told else "neither train nor test" not in said


def test_messages_and_columns_of_a_table_are_read(tmp_path: Path) -> None:
    say = [{"role": "user", "content": "q"}]
    values = [{"prompt": say, "chosen": "good", "rejected": "bad", "note": 3}] * 2
    made(Dataset.from_list(values), tmp_path / "out", keep=["note"], test_size=0)
    assert load_preferences(tmp_path / "out")["train"][0]["note"] == "3"


def test_nothing_tells_where_the_rows_lay(tmp_path: Path) -> None:
    made(Dataset.from_list(rows(30)), tmp_path / "out", name="Mine", dedupe="none")
    for path in (tmp_path / "out").rglob("*"):
        assert path.is_dir() or str(tmp_path).encode() not in path.read_bytes()
    card = (tmp_path / "out" / "README.md").read_text()
    call = "prepare(rows, 'data', converter='preference', dedupe='none', name='Mine')"
    assert f"```python\nfrom hubdpo import prepare\n\n{call}\n```" in card
    assert "hubdpo prepare" not in card.partition("## How it was made")[2].partition("| rows |")[0]
    assert "| `rows in memory` |" in card


def test_a_dry_run_and_an_explanation_take_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert made(rows(5), tmp_path / "out", dry_run=True).funnel.kept == 5
    assert prepare(rows(5), tmp_path / "out", explain=1) is None
    told = capsys.readouterr().err
    assert json.dumps(rows(5)[0], separators=(",", ":")) in told
    assert "── row 1\n" in told
    assert not (tmp_path / "out").exists()


def test_rows_are_counted_from_1_in_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        prepare([rows(1)[0], {"prompt": "q", "chosen": "", "rejected": "b"}], tmp_path / "out", strict=True)
    assert caught.value.message == "rows in memory, row 2: empty_answer"


def test_an_empty_answer_is_shown_as_such(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prepare([{"prompt": "q", "completion": "", "label": True}], tmp_path / "out", explain=1)
    assert "[assistant]: (empty)\n" in capsys.readouterr().err


CHAT = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
MISTAKES = {
    "empty list": ([], "`source` is empty"),
    "empty iterator": (iter(()), "`source` is empty"),
    "rows, then a path": ([rows(1)[0], "raw.jsonl"], "row 2 of the rows in memory is not a dict: str"),
    "a path, then rows": (["raw.jsonl", rows(1)[0]], "item 2 is neither a path nor an address: dict"),
    "numbers": ([1, 2], "item 1 of `source` is neither a dict nor a path: int"),
    "columns": ({"prompt": ["q"], "chosen": ["a"], "rejected": ["b"]}, "`source` is a dict of columns"),
    "a row": (rows(1)[0], "`source` is a single row"),
    "a row of messages": ({"chosen": CHAT, "rejected": CHAT}, "`source` is a single row"),
    "empty dict": ({}, "`source` is an empty dict"),
    "empty DatasetDict": (DatasetDict(), "`source` is an empty dict"),
    "paths by split": ({"train": "a.jsonl", "test": "b.jsonl"}, "`source` is a dict, and `train` of it is a path"),
    "columns by split": ({"train": {"prompt": ["q"]}}, "`train` is neither rows nor a table: dict"),
    "tables": ([Dataset.from_list(rows(1))] * 2, "`source` is a list of tables: Dataset"),
    "Series": (pd.Series(["q"]), "`source` is a column of texts, not rows: Series"),
    "Column": (Dataset.from_list(rows(1))["prompt"], "`source` is a column of texts, not rows: Column"),
    "paths of a glob": (Path(__file__).parent.glob("*.py"), "`source` is an iterator over paths"),
    "set": ({"a.jsonl"}, "`source` is neither rows nor paths: set"),
    "bytes": (b"raw", "`source` is neither rows nor paths: bytes"),
    "nothing": (None, "`source` is needed"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_source_that_is_neither_rows_nor_paths_is_refused_in_one_line(case: str, tmp_path: Path) -> None:
    source, message = MISTAKES[case]
    with pytest.raises(ConfigError) as caught:
        prepare(source, tmp_path / "out")
    assert message in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.hint
    assert not (tmp_path / "out").exists()


UNWRITABLE = {
    "bytes in a dict": ([rows(1)[0], {"prompt": b"q"}], "row 2 of the rows in memory cannot be written as JSON"),
    "surrogate": ([{"prompt": "\ud800"}], r"cannot be written as JSON: `prompt` has the lone surrogate '\ud800'"),
    "surrogate in a list": ([{"chosen": [{"content": "a\udc00"}]}], "row 1 of the rows in memory cannot"),
    "mixed column": (pd.DataFrame({"prompt": ["q", {"a": 1}]}), "the table cannot be written as Parquet"),
    "empty split": ({"train": rows(2), "test": []}, "rows in memory (test): there are none"),
    "two columns of a name": (pd.DataFrame([["q", "a"]], columns=["prompt"] * 2), "there are two columns `prompt`"),
    "the same of Arrow": (pa.table([["q"], ["a"]], names=["prompt"] * 2), "there are two columns `prompt`"),
    "no rows": (Dataset.from_list([]), "there are none"),
    "no rows in a frame": (pd.DataFrame({"prompt": []}), "there are none"),
}


@pytest.mark.parametrize("case", UNWRITABLE)
def test_rows_that_cannot_be_written_are_named(case: str, tmp_path: Path) -> None:
    source, message = UNWRITABLE[case]
    with pytest.raises(DataError) as caught:
        prepare(source, tmp_path / "out")
    assert message in caught.value.message
    assert "\n" not in caught.value.message
    assert not (tmp_path / "out").exists()


def test_a_list_of_texts_is_a_list_of_paths(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="source not found: nowhere.jsonl"):
        prepare(["nowhere.jsonl"], tmp_path / "out")
