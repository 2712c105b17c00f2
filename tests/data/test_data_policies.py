"""What an item of `sources` has beside its columns: its split, its weight, its most rows and its name."""

from __future__ import annotations

import importlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hubdpo import load_preferences
from hubdpo import prepare as prepare_data
from hubdpo.artefacts.manifests.prepare import PrepareManifest
from hubdpo.config import PrepareConfig
from hubdpo.config.description import SourceConfig
from hubdpo.data.clean import decide as decisions
from hubdpo.data.clean.decide import (
    ASKED_TEST,
    ASKED_TRAIN,
    DUPLICATE,
    LEFT_OUT,
    OVER_ROWS,
    TEST,
    TRAIN,
    SourceOfRows,
    decide,
)
from hubdpo.data.clean.keys import ROW_KEY, RowKeys, mix
from hubdpo.errors import ConfigError, DataError
from tests.data.made import contents, lines, rows


def config(**options: Any) -> PrepareConfig:
    return PrepareConfig(source=["x"], output_dir="y", **{"test_size": 0, **options})


def some_keys(prompts: int, pairs: int = 1) -> RowKeys:
    """Return the keys of `pairs` different pairs of each of `prompts` prompts."""
    keys = np.zeros(prompts * pairs, ROW_KEY)
    keys["prompt"] = mix(np.repeat(np.arange(1, prompts + 1, dtype=np.uint64), pairs))
    keys["low"] = mix(np.arange(10_000, 10_000 + len(keys), dtype=np.uint64))
    return keys


def source(**wanted: Any) -> SourceConfig:
    return SourceConfig(path=["x"], **wanted)


def of_one(keys: RowKeys, **wanted: Any) -> SourceOfRows:
    return SourceOfRows([source(**wanted)], np.zeros(len(keys), np.int32))


# which pairs


@pytest.mark.parametrize("most", [1, 10, 299, 300, 400])
def test_a_source_has_at_most_as_many_pairs(most: int) -> None:
    keys = some_keys(100, 3)
    decision = decide(keys, config(), sources=of_one(keys, max_rows=most))
    assert len(decision.kept(TRAIN)) == min(most, 300)
    assert Counter(decision.verdict.tolist())[OVER_ROWS] == max(300 - most, 0)


def test_the_pairs_of_a_prompt_stay_together_and_the_order_of_the_input_does_not_matter() -> None:
    keys = some_keys(100, 3)
    order = np.random.default_rng(0).permutation(len(keys))
    kept = []
    for some in (keys, keys[order]):
        decision = decide(some, config(), sources=of_one(some, max_rows=61))
        kept.append({int(low) for low in some["low"][decision.kept(TRAIN)]})
        of_prompts = Counter(some["prompt"][decision.kept(TRAIN)].tolist())
        assert sorted(of_prompts.values()) == [1, *[3] * 20]
    assert kept[0] == kept[1]
    other = decide(keys, config(seed=1), sources=of_one(keys, max_rows=61))
    assert kept[0] != {int(low) for low in keys["low"][other.kept(TRAIN)]}


def test_most_rows_counts_what_is_left_after_all_other_reasons() -> None:
    keys = np.concatenate([some_keys(50), some_keys(50)])
    decision = decide(keys, config(), sources=of_one(keys, max_rows=40))
    assert Counter(decision.verdict.tolist()) == {TRAIN: 40, DUPLICATE: 50, OVER_ROWS: 10}


def test_a_repeat_in_another_source_is_found_before_limits_and_weights_apply() -> None:
    keys = np.concatenate([some_keys(50), some_keys(50)])
    sources = SourceOfRows([source(weight=2), source(max_rows=1)], np.repeat([0, 1], 50))
    decision = decide(keys, config(), sources=sources)
    assert Counter(decision.verdict.tolist()) == {TRAIN: 50, DUPLICATE: 50}
    assert len(decision.kept(TRAIN)) == 100


@pytest.mark.parametrize(("weight", "found"), [(0.25, {0, 1}), (0.999, {0, 1}), (2, {2}), (2.5, {2, 3}), (1, {1})])
def test_a_weight_says_how_often_a_train_prompt_is_written(weight: float, found: set[int]) -> None:
    keys = some_keys(4000, 2)
    decision = decide(keys, config(test_size=0.25), sources=of_one(keys, weight=weight))
    test, train = decision.kept(TEST), decision.kept(TRAIN)
    assert len(test) == len(set(test.tolist()))  # the test split is written once
    of_train = np.isin(decision.verdict, (TRAIN, LEFT_OUT))
    written = Counter(train.tolist())
    times = np.array([written[row] for row in np.flatnonzero(of_train)])
    assert set(times.tolist()) == found
    assert abs(times.mean() - weight) < 0.03
    assert (times[::2] == times[1::2]).all()  # both pairs of a prompt
    assert train.tolist() == sorted(train.tolist())
    assert sum(decision.written(slice(None)).values()) == len(train) + len(test)


def test_a_larger_weight_keeps_what_a_smaller_one_keeps() -> None:
    keys = some_keys(1000)
    less, more = (set(decide(keys, config(), sources=of_one(keys, weight=w)).kept(TRAIN).tolist()) for w in (0.3, 0.6))
    assert less < more


# which split


def test_the_shares_of_sources_are_their_own() -> None:
    keys = some_keys(8000)
    decision = decide(keys, config(), shares=np.repeat([0.5, 0.1], 4000))
    test = decision.kept(TEST)
    assert abs(np.count_nonzero(test < 4000) - 2000) < 150
    assert abs(np.count_nonzero(test >= 4000) - 400) < 100


@pytest.mark.parametrize("on_leak", ["drop", "keep"])
def test_no_drawn_row_makes_a_prompt_leak(on_leak: str) -> None:
    for seed in range(150):
        draw = np.random.default_rng(seed)
        keys = some_keys(1)[np.zeros(200, int)]
        keys["prompt"] = mix(draw.integers(0, 60, 200).astype(np.uint64))
        keys["low"] = draw.integers(0, 400, 200)
        asked = draw.choice([0, ASKED_TRAIN, ASKED_TEST], 200, p=[0.6, 0.3, 0.1]).astype(np.uint8)
        shares = draw.choice([0.1, 0.5], 200)
        numbers = draw.integers(0, 3, 200)
        policies = [source(weight=0.5), source(max_rows=20), source(weight=1.5)]
        decision = decide(
            keys,
            config(on_leak=on_leak, seed=seed),
            asked=asked,
            shares=shares,
            sources=SourceOfRows(policies, numbers),
        )
        train, test = decision.kept(TRAIN), decision.kept(TEST)
        leaks = set(keys["prompt"][train].tolist()) & set(keys["prompt"][test].tolist())
        # only with prompts of rows that are asked to be test rows
        assert leaks <= (set(keys["prompt"][asked == ASKED_TEST].tolist()) if on_leak == "keep" else set())
        assert not (decision.verdict[asked == ASKED_TEST] == TRAIN).any()
        assert not (decision.verdict[asked == ASKED_TRAIN] == TEST).any()


# prepare


@pytest.fixture
def prepare(tmp_path: Path) -> Any:
    """Run prepare on some rows, with what their source has beside its path."""

    def run(*sources: tuple[list[Any], dict[str, Any]], out: str = "out", **options: Any) -> PrepareManifest:
        described = []
        for number, (values, wanted) in enumerate(sources):
            (tmp_path / f"{number}.jsonl").write_bytes(lines(values))
            described.append({"path": str(tmp_path / f"{number}.jsonl"), **wanted})
        manifest = prepare_data(sources=described, output_dir=tmp_path / out, **options)
        assert manifest is not None
        for source in manifest.sources:
            if source.converter == "preference":
                assert source.read + source.repeated == source.kept + sum(source.dropped.values())
        return manifest

    return run


def split_of(folder: Path, split: str) -> list[dict[str, Any]]:
    table = load_preferences(folder)
    return table[split].to_list() if split in table else []


def other(count: int, begin: int = 1000) -> list[dict[str, str]]:
    return rows(begin + count)[begin:]


def test_each_source_has_its_split(prepare: Any, tmp_path: Path) -> None:
    column = [{**row, "part": "dev" if i < 5 else "train"} for i, row in enumerate(other(20, 2000))]
    manifest = prepare(
        (rows(30), {"split": "train"}), (other(10), {"split": "test"}),
        (column, {"split": "part"}), (other(400, 3000), {"split": 0.5}),
        (other(50, 4000), {}),
    )  # fmt: skip
    assert [source.split for source in manifest.sources] == ["train", "test", "train, test", None, "train"]
    numbers = {
        split: {int(row["prompt"][0]["content"].split()[1]) for row in split_of(tmp_path / "out", split)}
        for split in ("train", "test")
    }
    assert {*range(30), *range(2005, 2020), *range(4000, 4050)} <= numbers["train"]
    assert {*range(1000, 1010), *range(2000, 2005)} <= numbers["test"]
    assert 150 < len([n for n in numbers["test"] if n >= 3000]) < 250
    assert "part" not in manifest.unused_columns


@pytest.mark.parametrize("share", [0.5, "50%", "0.5"])
def test_a_share_is_a_number_or_a_text(share: Any, prepare: Any) -> None:
    assert 60 < prepare((rows(200), {"split": share})).splits["test"] < 140


def test_a_share_of_one_source_leaves_the_others_to_the_option(prepare: Any) -> None:
    manifest = prepare((rows(400), {"split": 0.5}), (other(400), {}), test_size=0)
    assert not manifest.published_split
    assert 150 < manifest.splits["test"] < 250


def test_a_test_size_does_not_change_the_split_of_a_source(prepare: Any, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = prepare((rows(100), {"split": "test"}), (other(400), {}), test_size=0.25)
    assert manifest.published_split
    assert 160 < manifest.splits["test"] < 240
    assert "`--test-size` draws a new split" not in capsys.readouterr().err


def test_a_source_may_leave_a_published_split_aside(prepare: Any) -> None:
    column = [{**row, "split": "test" if i % 2 else "train"} for i, row in enumerate(rows(200))]
    manifest = prepare((column, {"split": "none"}), (other(20), {"split": "train"}))
    assert 0 < manifest.splits["test"] < 40


def test_a_column_of_a_source_that_names_no_split_is_refused(prepare: Any) -> None:
    column = [{**row, "part": "easy"} for row in rows(20)]
    with pytest.raises(
        DataError, match=r"\.jsonl: `split: part`: no value of this column is the name of a split; it has `easy`"
    ):
        prepare((column, {"split": "part"}), (other(20), {}))


def test_another_name_of_a_split_is_told_as_that_of_the_source(prepare: Any) -> None:
    with pytest.raises(DataError, match="`split: validation`: no value of this column") as refused:
        prepare((rows(20), {"split": "validation"}), (other(20), {}))
    assert str(refused.value.hint).endswith("`split: test`")


def test_a_source_without_the_published_split_of_its_description_is_told(
    prepare: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = prepare((rows(200), {"split": "published"}))
    assert 0 < manifest.splits["test"] < 40
    assert "`split: published`: 0.jsonl has no published split, so one is drawn" in capsys.readouterr().err


def test_a_prompt_of_a_source_for_testing_is_dropped_from_the_others(prepare: Any) -> None:
    manifest = prepare((rows(30), {}), (rows(40)[20:], {"split": "test"}))
    assert manifest.splits == {"train": 20, "test": 20}
    assert manifest.sources[0].dropped == {"prompt_in_test": 10}


def test_weights_and_most_rows_are_accounted_for(
    prepare: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = prepare(
        (rows(200), {"weight": 2.5}), (other(200), {"max_rows": 30}),
        (other(200, 2000), {"weight": 0.25}), test_size=0, max_reject=0, strict=True,
    )  # fmt: skip
    funnel = manifest.funnel
    left = manifest.sources[2].dropped["left_out_by_weight"]
    assert manifest.sources[1].dropped == {"over_max_rows": 170}
    assert funnel.dropped == {"left_out_by_weight": left, "over_max_rows": 170}
    assert 120 < left < 180
    assert funnel.added == manifest.repeated == manifest.sources[0].kept - 200
    assert 260 < manifest.repeated < 340
    assert funnel.kept == manifest.splits["train"] == len(found := split_of(tmp_path / "out", "train"))
    times = Counter(row["prompt"][0]["content"] for row in found)
    assert {times[f"question {i}"] for i in range(200)} == {2, 3}
    said, card = capsys.readouterr().err, (tmp_path / "out" / "README.md").read_text()
    assert "train pairs once more, by weight" in said
    assert "rows are dropped" not in said  # the user left them out
    assert f"train pairs written once more, by the weight of their source | {manifest.repeated} |" in card
    assert "more pairs from rows with several answers" not in card
    rejected = [json.loads(line) for line in (tmp_path / "out" / "rejected.jsonl").read_text().splitlines()]
    assert Counter(row["reason"] for row in rejected) == funnel.dropped


def test_the_name_of_a_source_is_a_column(prepare: Any, tmp_path: Path) -> None:
    labelled = [
        {"prompt": f"p{i}", "completion": f"{label} {i}", "label": label} for i in range(5) for label in (True, False)
    ]
    prepare(
        (rows(5), {"name": "first"}), (other(5), {}), (labelled, {"name": "third"}),
        test_size=0,
    )  # fmt: skip
    found = split_of(tmp_path / "out", "train")
    assert [row["source"] for row in found] == ["first"] * 5 + [None] * 5 + ["third"] * 5
    assert list(found[0])[-1] == "source"
    assert (
        "| `source` | text | name of the source that the pair is from |" in (tmp_path / "out" / "README.md").read_text()
    )


def test_a_kept_column_may_not_be_called_as_that_of_the_names(prepare: Any) -> None:
    values = [{**row, "source": "x"} for row in rows(5)]
    with pytest.raises(ConfigError, match="`--keep source`: the sources have names"):
        prepare((values, {"name": "a"}), keep=["source"])


@pytest.mark.parametrize("wanted", [{"weight": 0}, {"weight": 101}, {"weight": float("nan")}, {"max_rows": 0}])
def test_numbers_have_bounds(wanted: dict[str, Any], prepare: Any) -> None:
    with pytest.raises(ConfigError, match=f"item 1 of `sources`: option `{next(iter(wanted))}` is not valid"):
        prepare((rows(5), wanted))


def test_limits_and_weights_give_the_same_bytes_for_any_number_of_workers(prepare: Any, tmp_path: Path) -> None:
    for workers in (1, 2):
        prepare(
            (rows(300), {"weight": 1.5, "name": "a"}), (rows(500), {"max_rows": 50, "split": 0.3}),
            out=f"out{workers}", num_proc=workers,
        )  # fmt: skip
    assert contents(tmp_path / "out1") == contents(tmp_path / "out2")


def test_a_row_that_is_written_several_times_may_span_two_shards(
    prepare: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = importlib.import_module("hubdpo.data.prepare.shards")
    monkeypatch.setattr(shards, "LEAST_SHARD", 100)
    manifest = prepare((rows(100), {"weight": 3}), test_size=0, num_proc=1)
    assert len([name for name in manifest.files if name.endswith(".parquet")]) > 5
    assert Counter(row["prompt"][0]["content"] for row in split_of(tmp_path / "out", "train")) == Counter(
        {row["prompt"]: 3 for row in rows(100)}
    )


def test_without_limits_and_weights_nothing_is_drawn_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decisions, "times", None)
    monkeypatch.setattr(decisions, "beyond", None)
    keys = some_keys(10)
    assert (decide(keys, config(), sources=of_one(keys)).times == 1).all()


def test_the_pairs_of_a_source_are_together_in_each_split(prepare: Any, tmp_path: Path) -> None:
    manifest = prepare(
        (rows(60), {"weight": 2.5}), (other(40), {"split": "test"}), (other(80, 2000), {"weight": 0.5, "split": 0.5}),
        (rows(20), {}), (other(30, 3000), {"max_rows": 7}),
    )  # fmt: skip
    for split, pairs in manifest.splits.items():
        found = [row["prompt"][0]["content"] for row in split_of(tmp_path / "out", split)]
        start = 0
        for source in manifest.sources:
            stop = start + source.pairs.get(split, 0)
            allowed = {line["prompt"] for line in map(json.loads, (tmp_path / source.name).read_text().splitlines())}
            assert {*found[start:stop]} <= allowed
            start = stop
        assert start == pairs == len(found)
    assert [sum(source.pairs.values()) for source in manifest.sources] == [source.kept for source in manifest.sources]
