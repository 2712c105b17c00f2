"""How the runs of a sweep are ranked, and what is said of the best."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hubdpo.artefacts.folders.sweep_folder import best_run, refuse_sweep, why_best
from hubdpo.artefacts.manifests.intervals import Accuracy
from hubdpo.artefacts.manifests.sweep import SweepManifest, SweptRun
from hubdpo.errors import ArtefactError

AGAIN = "hubdpo sweep --beta 0.1 0.2 --resume"


def run(name: str, right: int | None = None, margin: float = 0.0, status: Any = "complete") -> SweptRun:
    accuracy = None if right is None else Accuracy.of(right, 100)
    return SweptRun(name=name, values={"beta": 1}, status=status, pairs=100, accuracy=accuracy, margin=margin)


def manifest(*runs: SweptRun) -> SweepManifest:
    return SweepManifest(hubdpo_version="0", again=AGAIN, runs=list(runs))


def test_runs_rank_by_accuracy_then_by_margin() -> None:
    found = manifest(
        run("low", 60, 9.0), run("tied", 80, 0.1), run("best", 80, 0.2), run("failed", status="failed"),
        run("unscored"), run("old", 90, status="failed"),
    )  # fmt: skip
    assert [each.name for each in found.ranked] == ["best", "tied", "low"]
    assert [each.name for each in found.in_order] == ["best", "tied", "low", "failed", "unscored", "old"]
    assert found.best is not None
    assert found.best.name == "best"


def test_only_overlapping_intervals_are_like_the_best() -> None:
    # 95 % Wilson intervals of 100 pairs: 90 is [.826, .945], 85 [.767, .907], 60 [.502, .691]
    found = manifest(run("best", 90), run("near", 85), run("far", 60))
    assert [each.name for each in found.like_the_best] == ["near"]
    assert why_best(found) == (
        "held-out reward accuracy 90.0% [82.6%, 94.5%], the highest of 3 runs; 100 pairs cannot tell it from 1 other "
        "run, whose 95 % interval overlaps its own"
    )
    assert "of equal ones the largest margin" in why_best(manifest(run("a", 90, 2.0), run("b", 90, 1.0)))
    assert "cannot tell" not in why_best(manifest(run("a", 90), run("b", 60)))


def test_the_folder_says_which_run_is_the_best(tmp_path: Path) -> None:
    manifest(run("a", 60), run("b", 90)).write(tmp_path / "sweep.json")
    assert best_run(tmp_path)[0] == tmp_path / "b"
    with pytest.raises(ArtefactError, match="is a sweep of 2 runs") as caught:
        refuse_sweep(tmp_path)
    assert caught.value.hint == str(tmp_path / "b")


def test_a_sweep_without_scores_has_no_best_run(tmp_path: Path) -> None:
    manifest(run("a"), run("b", status="waiting")).write(tmp_path / "sweep.json")
    with pytest.raises(ArtefactError, match="its dataset has no test split, so none is the best") as caught:
        best_run(tmp_path)
    assert caught.value.hint == str(tmp_path / "a")
    manifest(run("b", status="waiting")).write(tmp_path / "sweep.json")
    with pytest.raises(ArtefactError, match="no run of the sweep .* is finished"):
        best_run(tmp_path)
    with pytest.raises(ArtefactError) as caught:
        refuse_sweep(tmp_path)
    assert caught.value.hint == AGAIN


def test_a_run_folder_is_no_sweep(tmp_path: Path) -> None:
    manifest(run("a")).write(tmp_path / "sweep.json")
    (tmp_path / "run.json").write_text("{}")
    refuse_sweep(tmp_path)
