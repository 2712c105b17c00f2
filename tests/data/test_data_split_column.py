"""Splits row by row: a column that names them, `--split`, and sources with and without a published split together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hubdpo import load_preferences, prepare
from hubdpo.errors import ConfigError, DataError
from tests.data.made import contents, lines, rows

NAMES = ("train", "validation", "train_prefs", "test")


def named(count: int, names: tuple[Any, ...] = NAMES, column: str = "split") -> list[dict[str, Any]]:
    return [{**row, column: names[i % len(names)]} for i, row in enumerate(rows(count))]


def write(path: Path, values: list[Any]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(lines(values))
    return str(path)


def numbers(folder: Path, split: str) -> set[int]:
    table = load_preferences(folder)
    rows = table[split].to_list() if split in table else []
    return {int(row["prompt"][0]["content"].split()[-1]) for row in rows}


def of_names(count: int, *places: int) -> set[int]:
    return {i for i in range(count) if i % 4 in places}


def test_no_part_of_a_credential_is_shown_as_the_name_of_a_split(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    token = "hf_" + "QwErTyUiOpAsDfGhJkLzXcVbNmQwErTyUi"
    source = write(tmp_path / "raw.jsonl", named(8, ("train", f"use the following key: {token}")))
    prepare(source=source, output_dir=tmp_path / "out", split="split")
    said = " ".join(capsys.readouterr().err.split())
    assert "`use the following key: [REDACTED Hugging" in said and token[:8] not in said


@pytest.mark.parametrize("plain", [True, False], ids=["batches", "row by row"])
def test_rows_stay_in_the_split_that_their_column_names(
    plain: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = named(80)
    if not plain:
        values = [{**row, "chosen": [{"role": "assistant", "content": row["chosen"], "name": "x"}]} for row in values]
    source = write(tmp_path / "raw.jsonl", values)
    manifest = prepare(source=source, output_dir=tmp_path / "out", keep=["split"])
    assert manifest.published_split
    assert numbers(tmp_path / "out", "train") == of_names(80, 0, 2)
    assert numbers(tmp_path / "out", "test") == of_names(80, 1, 3)
    assert manifest.sources[0].split == "train, test"
    assert "split" not in manifest.unused_columns
    assert "`test` has test rows of raw.jsonl" in capsys.readouterr().err
    card = (tmp_path / "out" / "README.md").read_text()
    assert "Rows stay in their published split" in card
    assert "| `raw.jsonl` | train, test |" in card


def test_a_column_that_was_used_is_not_among_the_unused_ones(tmp_path: Path) -> None:
    source = write(tmp_path / "raw.jsonl", [{**row, "tag": "x"} for row in named(8)])
    assert prepare(source=source, output_dir=tmp_path / "out").unused_columns == {"tag": 8}


def test_a_file_sorted_by_split_is_kept_as_it_is_published(tmp_path: Path) -> None:
    """The first rows, which are looked at before, have one split only."""
    values = [{**row, "split": "test" if i > 1900 else "train"} for i, row in enumerate(rows(2000))]
    manifest = prepare(source=write(tmp_path / "raw.jsonl", values), output_dir=tmp_path / "out")
    assert manifest.splits == {"train": 1901, "test": 99}


@pytest.mark.parametrize("names", [("train",), ("test", "hard"), ("a", "b"), (1, 2)])
def test_a_column_split_without_both_splits_is_not_used(names: tuple[Any, ...], tmp_path: Path) -> None:
    manifest = prepare(source=write(tmp_path / "raw.jsonl", named(200, names)), output_dir=tmp_path / "out")
    assert not manifest.published_split
    assert manifest.unused_columns == {"split": 200}
    assert 0 < manifest.splits["test"] < 40


def test_files_with_one_split_each_in_the_column_make_a_published_split(tmp_path: Path) -> None:
    for name, split in (("a", "dev"), ("b", "train")):
        write(
            tmp_path / "in" / f"{name}.jsonl",
            [{**row, "prompt": f"{name} {row['prompt']}"} for row in named(6, (split,))],
        )
    assert prepare(source=str(tmp_path / "in"), output_dir=tmp_path / "out").splits == {"train": 6, "test": 6}


def test_rows_of_no_split_are_counted_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write(tmp_path / "raw.jsonl", named(40, ("train", "test", "hard", None)))
    manifest = prepare(source=source, output_dir=tmp_path / "out")
    assert manifest.splits == {"train": 30, "test": 10}
    assert (
        "20 rows of raw.jsonl have neither train nor test in `split` (`hard` (10), nothing (10)): "
        "they count as train rows"
    ) in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("column", ["part", "meta.part", "meta.parts.0"])
def test_the_column_is_named_by_option(column: str, tmp_path: Path) -> None:
    def at(row: dict[str, Any], value: str) -> dict[str, Any]:
        held = {"part": value} if column == "part" else {"meta": {"part": value, "parts": [value], "other": 1}}
        return {**row, **held, "split": "train"}

    values = [at(row, NAMES[i % 4]) for i, row in enumerate(rows(40))]
    manifest = prepare(source=write(tmp_path / "train.jsonl", values), output_dir=tmp_path / "out", split=column)
    assert numbers(tmp_path / "out", "test") == of_names(40, 1, 3)
    unused = {"meta.other": 40} if "." in column else {}
    assert {
        name: count
        for name, count in manifest.unused_columns.items()
        if name not in ("split", "meta.part", "meta.parts")
    } == unused
    command = (tmp_path / "out" / "README.md").read_text()
    assert f"--split {column}" in command


@pytest.mark.parametrize("name", ["raw.jsonl", "train.jsonl"])
def test_a_column_by_option_that_names_no_split_is_refused(name: str, tmp_path: Path) -> None:
    source = write(tmp_path / name, named(9, ("easy", "hard", "")))
    with pytest.raises(DataError, match="`--split split`: no value of this column is the name of a split") as refused:
        prepare(source=source, output_dir=tmp_path / "out", split="split")
    assert "`easy` (3), `hard` (3), nothing (3)" in str(refused.value)
    assert not (tmp_path / "out").exists()


def test_a_column_by_option_keeps_even_one_split(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write(tmp_path / "raw.jsonl", named(200, ("train",)))
    assert prepare(source=source, output_dir=tmp_path / "out", split="split").splits == {"train": 200}
    assert "nothing is left of the published test split" in capsys.readouterr().err


def test_published_splits_are_left_aside_by_option(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "in" / "train.jsonl", rows(200)[:100])
    write(tmp_path / "in" / "test.jsonl", rows(200)[100:])
    manifest = prepare(source=str(tmp_path / "in"), output_dir=tmp_path / "out", split="none")
    assert not manifest.published_split
    assert 0 < manifest.splits["test"] < 40
    assert "draws a new split" not in capsys.readouterr().err


def test_a_published_split_that_is_not_there_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prepare(source=write(tmp_path / "raw.jsonl", rows(50)), output_dir=tmp_path / "out", split="published")
    assert "`--split published`: the source has no published train and test rows" in capsys.readouterr().err


@pytest.mark.parametrize("source", ["names", "column"])
def test_a_share_beside_published_splits_is_drawn_of_the_other_sources(
    source: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if source == "names":
        write(tmp_path / "a" / "train.jsonl", rows(20)[:15])
        write(tmp_path / "a" / "test.jsonl", rows(20)[15:18])
        write(tmp_path / "a" / "more.jsonl", rows(20)[18:])
    else:
        write(
            tmp_path / "a" / "raw.jsonl",
            [{**row, "split": "test" if 15 <= i < 18 else "train"} for i, row in enumerate(rows(20))],
        )
    write(tmp_path / "b.jsonl", [*rows(400)[20:], *({**row, "rejected": "other"} for row in rows(18))])
    manifest = prepare(
        source=[str(tmp_path / "a"), str(tmp_path / "b.jsonl")], output_dir=tmp_path / "out", split="published",
        test_size=0.2,
    )  # fmt: skip
    test, train = numbers(tmp_path / "out", "test"), numbers(tmp_path / "out", "train")
    assert test & set(range(20)) == {15, 16, 17}
    assert {*range(15), 18, 19} <= train
    assert 50 < len(test) < 110
    # of b, rows with a published train prompt follow it, and those with a published test prompt are dropped
    assert manifest.funnel.dropped == {"prompt_in_test": 3}
    assert manifest.sources[-1].split is None
    said = " ".join(capsys.readouterr().err.split())
    assert "but those of b.jsonl are drawn" in said
    assert "| `b.jsonl` | drawn |" in (tmp_path / "out" / "README.md").read_text()


def test_answers_of_different_splits_in_a_column_are_not_paired(tmp_path: Path) -> None:
    both = [
        {"prompt": f"q {i}", "completion": f"{label} {i}", "label": label, "split": "test" if i > 5 else "train"}
        for i in range(8)
        for label in (True, False)
    ]
    apart = [
        {"prompt": "both", "completion": str(label), "label": label, "split": "test" if label else "train"}
        for label in (True, False)
    ]
    manifest = prepare(source=write(tmp_path / "raw.jsonl", [*both, *apart]), output_dir=tmp_path / "out")
    assert (manifest.splits, manifest.funnel.dropped) == ({"train": 6, "test": 2}, {"unpaired": 2})


def test_a_split_column_that_a_new_split_overrules_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write(tmp_path / "raw.jsonl", named(200))
    manifest = prepare(source=source, output_dir=tmp_path / "out", test_size=0.1)
    assert manifest.unused_columns == {"split": 200}
    assert "`--test-size` draws a new split: the published test rows (raw.jsonl) are split" in capsys.readouterr().err


def test_a_prompt_in_both_splits_of_a_column_is_dropped_from_train(tmp_path: Path) -> None:
    values = [*named(8), {"prompt": "Question 1", "chosen": "x", "rejected": "y", "split": "train"}]
    prepare(source=write(tmp_path / "raw.jsonl", values), output_dir=tmp_path / "out")
    (dropped,) = map(json.loads, (tmp_path / "out" / "rejected.jsonl").read_text().splitlines())
    assert (dropped["line"], dropped["reason"]) == (9, "prompt_in_test")


def test_the_splits_of_a_column_are_the_same_for_any_number_of_workers(tmp_path: Path) -> None:
    sources = [write(tmp_path / f"{name}.jsonl", named(300, names)) for name, names in (("a", NAMES), ("b", ("x",)))]
    for workers in (1, 2):
        prepare(source=sources, output_dir=tmp_path / f"out{workers}", num_proc=workers, dedupe="none")
    assert contents(tmp_path / "out1") == contents(tmp_path / "out2")


@pytest.mark.parametrize("name", ["train.jsonl", "raw.jsonl"])
def test_a_column_by_option_that_no_row_has_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="`--split part`: no row has a column `part`; the rows have"):
        prepare(source=write(tmp_path / name, rows(9)), output_dir=tmp_path / "out", split="part")


def test_rows_without_the_column_stay_in_the_split_that_their_file_is_called(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "in" / "a.jsonl", named(8))
    write(tmp_path / "in" / "test.jsonl", rows(12)[8:])
    assert prepare(source=str(tmp_path / "in"), output_dir=tmp_path / "out", split="split").splits["test"] == 8
    said = " ".join(capsys.readouterr().err.split())
    assert "4 rows of test.jsonl have neither train nor test in `split` (nothing (4)): they stay in `test`" in said


@pytest.mark.parametrize(
    ("split", "hint"),
    [("0.1", "--test-size 0.1"), ("10%", "--test-size 0.1"), ("train", "--test-size 0"), ("test", "sources: [")],
)
def test_what_is_no_column_is_told_with_what_was_meant(split: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=f"`{split}` is a") as refused:
        prepare(source="raw.jsonl", output_dir="out", split=split)
    assert hint in str(refused.value.hint).replace("test_size=", "--test-size ")
