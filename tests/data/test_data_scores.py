"""`--keep-scores`: the scores by which answers were paired, beside the pairs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hubdpo import load_preferences, prepare
from hubdpo.errors import ConfigError

LIST = [
    {
        "instruction": f"Question {i}?",
        "completions": [
            {"response": f"Good {i}.", "overall_score": 9.5}, {"response": f"Bad {i}.", "overall_score": 2},
            {"response": f"Fair {i}.", "overall_score": 4.6}, {"response": f"None {i}.", "overall_score": None},
        ],
    }
    for i in range(3)
]  # fmt: skip
RANKED = [
    {"prompt": f"Question {i}?", "answers": [{"answer": f"Good {i}.", "rank": 1}, {"answer": f"Bad {i}.", "rank": 3}]}
    for i in range(3)
]
HELPSTEER = [
    {
        "prompt": f"Question {i // 2}?", "response": f"{'Good' if i % 2 else 'Bad'} {i}.",
        "helpfulness": 4.6 if i % 2 else 1, "correctness": 1, "coherence": 1, "complexity": 1, "verbosity": 1,
    }
    for i in range(6)
]  # fmt: skip
BESIDE = [
    {"prompt": f"Question {i}?", "chosen": "Good.", "rejected": "Bad.", "chosen_rating": 8, "rejected-rating": 1}
    for i in range(3)
]
RATED = [{**{k: v for k, v in row.items() if k != "rejected-rating"}, "rejected_rating": 1.5} for row in BESIDE]


def kept(folder: Path, rows: list[dict[str, Any]], **options: Any) -> list[tuple[str | None, str | None]]:
    prepare(rows, folder, keep_scores=True, test_size=0, **options)
    return [(row["score_chosen"], row["score_rejected"]) for row in load_preferences(folder)["train"]]


@pytest.mark.parametrize(
    ("rows", "scores"),
    [
        (LIST, ("9.5", "2.0")), (RANKED, ("-1.0", "-3.0")), (HELPSTEER, ("4.6", "1.0")), (RATED, ("8", "1.5")),
        (BESIDE, (None, None)),
    ],
    ids=["list", "ranks", "one answer a row", "beside the answers", "of one answer alone"],
)  # fmt: skip
def test_scores_are_kept_as_they_decided(rows: list[dict[str, Any]], scores: tuple[str, str], tmp_path: Path) -> None:
    assert kept(tmp_path / "data", rows) == [scores] * 3


def test_each_pair_of_several_has_its_own_scores(tmp_path: Path) -> None:
    found = kept(tmp_path / "data", LIST, pairs="adjacent")
    assert found == [("9.5", "4.6"), ("4.6", "2.0")] * 3


def test_described_scores_and_margins_are_kept(tmp_path: Path) -> None:
    rows = [{"q": f"Question {i}?", "a": "Good.", "b": "Bad.", "x": 5, "y": 3, "gap": 0.5} for i in range(3)]
    columns = {"prompt": "q", "chosen": "a", "rejected": "b"}
    assert kept(tmp_path / "scores", rows, scores=["x", "y"], **columns) == [("5.0", "3.0")] * 3
    assert kept(tmp_path / "margin", rows, margin="gap", **columns) == [("0.5", "0.0")] * 3


def test_a_column_that_is_kept_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="`--keep-scores` writes a column of this name"):
        prepare([{**RATED[0], "score_chosen": 1}], tmp_path / "data", keep_scores=True, keep=["score_chosen"])


@pytest.mark.parametrize(
    "rows",
    [
        [{"prompt": f"Question {i}?", "chosen": "Good.", "rejected": "Bad."} for i in range(2)],
        [{"prompt": "Question?", "completion": f"Answer {i}.", "label": bool(i % 2)} for i in range(4)],
    ],
    ids=["pairs", "labels"],
)
def test_rows_without_scores_are_named(
    rows: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert kept(tmp_path / "data", rows) == [(None, None)] * 2
    assert "`--keep-scores` is not used: no score is read" in " ".join(capsys.readouterr().err.split())


def test_the_scores_of_many_rows_are_kept(tmp_path: Path) -> None:
    rows = [{**RATED[0], "prompt": f"Question {i}?"} for i in range(60)]
    assert kept(tmp_path / "data", rows) == [("8", "1.5")] * 60
