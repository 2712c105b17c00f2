"""The split that a source was published in stays: told by names, one rule for prompts of both."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Dataset, DatasetDict

from hubdpo import load_preferences, prepare
from hubdpo.config import PrepareConfig
from hubdpo.data.clean.decide import ASKED_TEST, ASKED_TRAIN, NEAR, TEST, TRAIN, Decision, decide
from hubdpo.data.clean.keys import ROW_KEY
from hubdpo.data.clean.near_duplicates import PERMUTATIONS
from hubdpo.data.raw.split_names import is_split_name, split_of
from hubdpo.errors import DataError
from tests.data.made import lines, rows

stage_module = importlib.import_module("hubdpo.data.prepare.prepare")


def write(path: Path, values: list[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(lines(values))


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train.jsonl", "train"), ("data/test-00000-of-00001.parquet", "test"), ("dpo_val.jsonl", "test"),
        ("train/data-00000-of-00002.arrow", "train"), ("Test.json.gz", "test"), ("dev2.csv", "test"),
        ("data/train_prefs-00000-of-00001.parquet", "train"), ("alpaca_eval/train.jsonl", "train"),
        ("train/eval.jsonl", "test"), ("validation", "test"), ("train_test.jsonl", None),
        ("train/train_test.csv", "train"),
        ("pairs.jsonl", None), ("latest.jsonl", None), ("contest.jsonl", None), ("pretrained.jsonl", None),
        ("tests/rows.jsonl", None), ("value.json", None),
        ("训练集.jsonl", "train"), ("data/测试集.csv", "test"), ("我的测试数据.jsonl", "test"),
        ("验证.parquet", "test"),
        ("dpo_訓練集_v2.jsonl", "train"), ("驗證集", "test"), ("训练/测试.jsonl", "test"), ("训练测试.jsonl", None),
        ("评测集/a.jsonl", "test"), ("train_测试.jsonl", None), ("试题.jsonl", None), ("训 练.jsonl", None),
    ],
)  # fmt: skip
def test_a_name_tells_a_split_by_whole_words(name: str, split: str | None) -> None:
    assert split_of(name) == split


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("Train", True), ("heldout", True), ("训练集", True), ("测试", True), ("验证数据集", True), ("評測組", True),
        ("my train", False), ("训练营", False), ("我的训练集", False), ("tests", False),
    ],
)  # fmt: skip
def test_a_folder_is_a_split_by_its_whole_name(name: str, named: bool) -> None:
    assert is_split_name(name) is named


def in_splits(folder: Path) -> dict[str, set[str]]:
    """Return the text of the prompts of each split."""
    return {
        name: {row["prompt"][0]["content"] for row in table.to_list()}
        for name, table in load_preferences(folder).items()
    }


LAYOUTS = {
    "files": ("train.jsonl", "test.jsonl"),
    "shards": ("data/train-00000-of-00001.jsonl", "data/validation-00000-of-00001.jsonl"),
    "folders": ("train/part.jsonl", "dev/part.jsonl"),
    "words": ("dpo_train.jsonl", "dpo_eval.jsonl"),
    "Chinese": ("训练集.jsonl", "测试集.jsonl"),
    "Chinese folders": ("訓練/part.jsonl", "验证集/part.jsonl"),
    "only test is named": ("pairs.jsonl", "pairs_test.jsonl"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("how", ["folder", "files"])
def test_rows_stay_in_the_split_they_were_published_in(
    layout: str, how: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train, test = (tmp_path / "in" / name for name in LAYOUTS[layout])
    write(train, rows(40)[:30])
    write(test, rows(40)[30:])
    source = [str(tmp_path / "in")] if how == "folder" else [str(train), str(test)]
    manifest = prepare(source=source, output_dir=tmp_path / "out")
    assert in_splits(tmp_path / "out") == {
        "train": {f"question {i}" for i in range(30)}, "test": {f"question {i}" for i in range(30, 40)},
    }  # fmt: skip
    assert manifest.published_split
    assert [source.split for source in manifest.sources] == (["train", "test"] if train < test or how == "files"
                                                             else ["test", "train"])  # fmt: skip
    assert "rows stay in the split they were published in" in capsys.readouterr().err
    assert "Rows stay in their published split" in (tmp_path / "out" / "README.md").read_text()


def test_a_folder_that_is_called_as_a_split_tells_it(tmp_path: Path) -> None:
    write(tmp_path / "train" / "rows.jsonl", rows(9)[:6])
    write(tmp_path / "test" / "rows.jsonl", rows(9)[6:])
    sources = [str(tmp_path / name) for name in ("train", "test")]
    assert prepare(source=sources, output_dir=tmp_path / "out").splits == {"train": 6, "test": 3}


def test_the_splits_of_one_json_file_and_of_save_to_disk_stay(tmp_path: Path) -> None:
    parts = {"train": rows(40)[:30], "validation": rows(40)[30:]}
    (tmp_path / "rows.json").write_text(json.dumps(parts, indent=1))
    saved = DatasetDict({name: Dataset.from_list(values) for name, values in parts.items()})
    saved.save_to_disk(tmp_path / "saved")
    for source in ("rows.json", "saved"):
        manifest = prepare(source=str(tmp_path / source), output_dir=tmp_path / f"out-{source}")
        assert (manifest.published_split, manifest.splits) == (True, {"train": 30, "test": 10})
        assert in_splits(tmp_path / f"out-{source}")["test"] == {f"question {i}" for i in range(30, 40)}


def test_a_split_is_drawn_anew_when_it_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "in" / "train.jsonl", rows(200)[:100])
    write(tmp_path / "in" / "test.jsonl", rows(200)[100:])
    manifest = prepare(source=str(tmp_path / "in"), output_dir=tmp_path / "out", test_size=0.3)
    assert not manifest.published_split
    assert {f"question {i}" for i in range(100)} & in_splits(tmp_path / "out")["test"]
    assert "`--test-size` draws a new split: the published test rows (test.jsonl)" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["train.jsonl", "test.jsonl", "pairs.jsonl"])
def test_one_split_alone_is_split_by_hash(name: str, tmp_path: Path) -> None:
    write(tmp_path / name, rows(200))
    manifest = prepare(source=str(tmp_path / name), output_dir=tmp_path / "out")
    assert not manifest.published_split
    assert 0 < manifest.splits["test"] < 40


@pytest.mark.parametrize(
    ("values", "options", "told"),
    [(("train", "valid1"), {}, True), (("train", "valid1"), {"test_size": 0.1}, False), (("a", "b"), {}, False)],
)
def test_a_split_in_a_column_that_the_name_of_the_file_overrules_is_told(
    values: tuple[str, str], options: dict[str, Any], told: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "train.jsonl", [{**row, "split": values[i % 2]} for i, row in enumerate(rows(9))])
    manifest = prepare(source=str(tmp_path / "train.jsonl"), output_dir=tmp_path / "out", **options)
    said = capsys.readouterr().err
    assert ("warning: train.jsonl: the column `split` (train, valid1) is not used" in said) is told
    assert not manifest.published_split
    assert manifest.unused_columns == {"split": 9}


@pytest.mark.parametrize("dedupe", ["exact", "near", "none"])
def test_a_prompt_of_both_published_splits_stays_in_test(
    dedupe: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "in" / "train.jsonl", rows(12))
    # the same pair, the same prompt spaced and spelt another way, and the other way round
    shared = [
        rows(12)[0], {"prompt": "Question  1", "chosen": "x", "rejected": "y"},
        {"prompt": "question 2", "chosen": "bad 2", "rejected": "good 2"},
    ]  # fmt: skip
    write(tmp_path / "in" / "test.jsonl", shared)
    manifest = prepare(source=str(tmp_path / "in"), output_dir=tmp_path / "out", dedupe=dedupe)
    assert (manifest.splits, manifest.funnel.dropped) == ({"train": 9, "test": 3}, {"prompt_in_test": 3})
    assert in_splits(tmp_path / "out")["test"] == {row["prompt"] for row in shared}
    assert "3 published train pairs have a prompt of the published test split" in capsys.readouterr().err
    rejected = [json.loads(line) for line in (tmp_path / "out" / "rejected.jsonl").read_text().splitlines()]
    assert [(row["source"], row["line"], row["reason"]) for row in rejected] == [
        ("train.jsonl", line, "prompt_in_test") for line in (1, 2, 3)
    ]
    assert "`prompt_in_test`: 3" in (tmp_path / "out" / "README.md").read_text()


def leaking(folder: Path) -> list[str]:
    """Write two sources, of which one has the other's second test prompt among its train rows; return their paths."""
    write(folder / "a" / "train.jsonl", rows(12)[:8])
    write(folder / "a" / "valid.jsonl", [rows(12)[0], *rows(12)[8:]])
    write(folder / "b" / "train.jsonl", [*rows(20)[14:], {"prompt": "Question 8", "chosen": "x", "rejected": "y"}])
    return [str(folder / name) for name in "ab"]


def test_a_prompt_of_another_sources_test_split_is_dropped(tmp_path: Path) -> None:
    manifest = prepare(source=leaking(tmp_path / "in"), output_dir=tmp_path / "out")
    assert (manifest.splits, manifest.funnel.dropped) == ({"train": 13, "test": 5}, {"prompt_in_test": 2})
    assert manifest.shared_prompts == 0


@pytest.mark.parametrize("dedupe", ["exact", "near", "none"])
def test_prompts_in_both_splits_are_kept_by_option(
    dedupe: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = leaking(tmp_path / "in")
    manifest = prepare(source=source, output_dir=tmp_path / "out", on_leak="keep", dedupe=dedupe)
    # of two equal pairs the one in test stays
    repeats = {} if dedupe == "none" else {"duplicate_pair": 1}
    assert (manifest.splits, manifest.funnel.dropped) == ({"train": 15 - len(repeats), "test": 5}, repeats)
    assert manifest.shared_prompts == 2 - len(repeats)
    assert f"{2 - len(repeats)} prompt" in (said := capsys.readouterr().err)
    assert "of the published test split stay in train as well" in said
    card = (tmp_path / "out" / "README.md").read_text()
    assert f"Prompts in both splits, which `--on-leak keep` kept: {2 - len(repeats)}." in card
    assert "No prompt is in both splits" not in card


def test_a_prompt_in_both_splits_is_refused_by_option(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="prompt_in_test") as refused:
        prepare(source=leaking(tmp_path / "in"), output_dir=tmp_path / "out", on_leak="error")
    assert refused.value.message == "train.jsonl, line 1: prompt_in_test"
    assert refused.value.hint == "fix the row, or remove `--on-leak error` to drop and count such rows"
    assert not (tmp_path / "out").exists()


def test_answers_of_two_published_splits_are_not_paired(tmp_path: Path) -> None:
    both = [
        {"prompt": f"q {i}", "completion": f"{label} {i}", "label": label} for i in range(8) for label in (True, False)
    ]
    apart = [{"prompt": "both", "completion": str(label), "label": label} for label in (True, False)]
    write(tmp_path / "in" / "train.jsonl", [*both[:12], apart[0]])
    write(tmp_path / "in" / "test.jsonl", [*both[12:], apart[1]])
    manifest = prepare(source=str(tmp_path / "in"), output_dir=tmp_path / "out")
    assert (manifest.splits, manifest.funnel.dropped) == ({"train": 6, "test": 2}, {"unpaired": 2})


def some_keys(draw: np.random.Generator, rows: int) -> tuple[Any, Any]:
    """Draw keys of pairs with few prompts, and signatures of which some are alike though their prompts differ."""
    keys = np.zeros(rows, ROW_KEY)
    keys["prompt"] = draw.integers(0, 40, rows).astype(np.uint64) * np.uint64(2**58 + 12345)
    keys["low"], keys["high"] = draw.integers(0, 300, (2, rows))
    keys["flipped"] = draw.integers(0, 2, rows)
    families = draw.integers(0, 2**32, (90, PERMUTATIONS), dtype=np.uint32)
    return keys, families[draw.integers((0, 50), (50, 90), (rows, 2))]


@pytest.mark.parametrize("published", [False, True], ids=["drawn", "published"])
@pytest.mark.parametrize("dedupe", ["exact", "near"])
def test_no_prompt_and_no_similar_one_is_in_both_splits(dedupe: str, published: bool) -> None:
    config = PrepareConfig(source=["x"], output_dir="y", dedupe=dedupe, test_size=None if published else 0.4)
    for seed in range(200):
        draw = np.random.default_rng(seed)
        keys, signatures = some_keys(draw, int(draw.integers(2, 120)))
        near = signatures if dedupe == "near" else None
        held = np.where(draw.random(len(keys)) < 0.3, ASKED_TEST, ASKED_TRAIN) if published else None
        decision = decide(keys, config.model_copy(update={"seed": seed}), near=near, asked=held)
        train, test = decision.kept(TRAIN), decision.kept(TEST)
        assert not set(keys["prompt"][train].tolist()) & set(keys["prompt"][test].tolist())
        if near is not None:
            families = [{row.tobytes() for row in near[part, 0]} for part in (train, test)]
            assert not families[0] & families[1]
        if held is not None:
            assert (held[test] == ASKED_TEST).all()
            assert (held[train] == ASKED_TRAIN).all()


def test_of_similar_pairs_the_published_test_row_stays() -> None:
    config = PrepareConfig(source=["x"], output_dir="y", dedupe="near")
    keys, near = some_keys(np.random.default_rng(0), 2)
    keys["prompt"], keys["low"] = (1, 2), (1, 2)
    near[1] = ~near[0, 0], near[0, 1]
    decision = decide(keys, config, near=near, asked=np.array([ASKED_TRAIN, ASKED_TEST], np.uint8))
    assert decision.verdict.tolist() == [NEAR, TEST]


def test_a_prompt_in_both_splits_is_a_bug_that_stops_prepare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(keys: Any, *rest: Any, **options: Any) -> Decision:
        return Decision((np.arange(len(keys)) % 2).astype(np.uint8), None, np.ones(len(keys), np.uint8))

    monkeypatch.setattr(stage_module, "decide", broken)
    same = [{"prompt": "q", "chosen": f"c {i}", "rejected": f"r {i}"} for i in range(4)]
    write(tmp_path / "raw.jsonl", same)
    with pytest.raises(AssertionError, match="1 prompts are in both splits"):
        prepare(source=str(tmp_path / "raw.jsonl"), output_dir=tmp_path / "out")
    assert not (tmp_path / "out").exists()
