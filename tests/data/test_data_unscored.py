"""Answers that nobody scored, among others that were: they are left out, and the others compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hubdpo import load_preferences, prepare
from hubdpo.data.converters import ConvertOptions
from hubdpo.data.pairs.example import PreferenceExample, Rejection
from tests.data.made import detect, find_converter, lines


def completions(scores: list[Any]) -> dict[str, Any]:
    return {
        "instruction": "q",
        "completions": [{"response": "abcd"[i], "overall_score": s} for i, s in enumerate(scores)],
    }


def ratings(scores: list[Any]) -> dict[str, Any]:
    return {"prompt": "q", "responses": list("abcd")[: len(scores)], "ratings": scores}


def ranks_in_items(scores: list[Any]) -> dict[str, Any]:
    answers = [{"answer": "abcd"[place], "rank": rank} for place, rank in enumerate(ranks_of(scores))]
    return {"prompt": "q", "answers": answers}


def ranks_in_a_list(scores: list[Any]) -> dict[str, Any]:
    return {"prompt": "q", "answers": list("abcd")[: len(scores)], "ranks": ranks_of(scores)}


def ranks_of(scores: list[Any]) -> list[Any]:
    return [-s if isinstance(s, (int, float)) else s for s in scores]


SHAPES = [("scored", completions), ("scored", ratings), ("ranked", ranks_in_items), ("ranked", ranks_in_a_list)]


def made_of(name: str, row: dict[str, Any], pairs: Any = "best-worst") -> list[Any]:
    return list(find_converter(name).bind(ConvertOptions(pairs))(row))  # type: ignore[call-overload]


@pytest.mark.parametrize(("name", "write"), SHAPES)
@pytest.mark.parametrize("missing", [None, float("nan"), "N/A", "nan", "", " "])
def test_an_answer_without_a_score_is_left_out_by_itself(name: str, write: Any, missing: Any) -> None:
    row = write([missing, 3, 1, 2])
    assert detect([row] * 3) == name
    pairs = made_of(name, row, "all")
    assert [(pair.chosen[0]["content"], pair.rejected[0]["content"]) for pair in pairs] == [
        ("b", "d"), ("b", "c"), ("d", "c"),
    ]  # fmt: skip
    assert {pair.changes for pair in pairs} == {1 << 5}


@pytest.mark.parametrize(("name", "write"), SHAPES)
def test_a_row_whose_answers_are_all_scored_is_not_changed(name: str, write: Any) -> None:
    (pair,) = made_of(name, write([1, 2, 3]))
    assert isinstance(pair, PreferenceExample)
    assert (pair.chosen[0]["content"], pair.changes) == ("c", 0)


@pytest.mark.parametrize(("name", "write"), SHAPES)
@pytest.mark.parametrize(
    ("scores", "reason"), [([None, 1, None], "unscored"), ([None, None], "unscored"), ([1, "high", 2], "wrong_type")]
)
def test_a_row_without_two_scores_is_lost_by_name(name: str, write: Any, scores: list[Any], reason: str) -> None:
    with pytest.raises(Rejection, match=reason):
        made_of(name, write(scores))


def test_an_unscored_answer_that_is_no_text_costs_nothing() -> None:
    row = completions([2, 1, None])
    row["completions"][2]["response"] = 5
    assert len(made_of("scored", row)) == 1


def test_unscored_answers_are_counted_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = [completions(scores) | {"instruction": f"q{i}"} for i, scores in enumerate(
        [[1, 2, 3], [None, 1, 2], [None, None, 3], [2, None, 1]]
    )]  # fmt: skip
    (tmp_path / "raw.jsonl").write_bytes(lines(values))
    manifest = prepare(source=str(tmp_path / "raw.jsonl"), output_dir=tmp_path / "out", test_size=0)
    assert manifest is not None
    assert (manifest.funnel.kept, manifest.funnel.dropped) == (3, {"unscored": 1})
    assert manifest.changed == {"unscored_answers_left_out": 2}
    assert "changed: unscored_answers_left_out" in capsys.readouterr().err


@pytest.mark.parametrize("indent", [None, 1])
def test_one_row_with_an_unscored_answer_is_a_row_and_no_list_of_rows(tmp_path: Path, indent: int | None) -> None:
    (tmp_path / "raw.json").write_text(json.dumps(completions([None, 1, 2]), indent=indent))
    prepare(source=str(tmp_path / "raw.json"), output_dir=tmp_path / "out", test_size=0)
    assert load_preferences(tmp_path / "out")["train"][0]["chosen"][0]["content"] == "c"
