"""What an evaluation was not asked for stays from the one before, and what goes is named."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from hubdpo import evaluate, prepare
from hubdpo.artefacts.folders.kinds import entries_of
from hubdpo.artefacts.manifests.answered import ANSWERED_FILE, Answered, from_lines
from hubdpo.artefacts.manifests.evaluation import EvalReport
from hubdpo.artefacts.manifests.run import RunManifest
from tests.evaluation.judge_server import JudgeServer, longer, serving

FAST = {"base_weights": "as-trained", "max_new_tokens": 12}


@pytest.fixture(scope="module")
def server() -> JudgeServer:
    with serving(longer) as server:
        yield server


@pytest.fixture(scope="module")
def judged(run_dir: Path, server: JudgeServer, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, EvalReport]:
    folder = tmp_path_factory.mktemp("judged") / "run"
    shutil.copytree(run_dir, folder)
    report = evaluate(
        folder, judge=server.url, judge_model="judge-1", publish_samples=True, max_answers=4, **FAST
    )  # fmt: skip
    return folder, report


@pytest.fixture
def run(judged: tuple[Path, EvalReport], tmp_path: Path) -> Path:
    return Path(shutil.copytree(judged[0], tmp_path / "run"))


def answered(run: Path) -> list[Answered]:
    return from_lines((run / ANSWERED_FILE).read_bytes())


def test_what_was_judged_and_quoted_stays(
    run: Path, judged: tuple[Path, EvalReport], capsys: pytest.CaptureFixture[str]
) -> None:
    found = evaluate(run, max_answers=4, **FAST)
    assert found.judged == judged[1].judged is not None
    assert found.quoted == judged[1].quoted is not None
    assert [each.verdict for each in answered(run)] == [each.verdict for each in answered(judged[0])]
    assert None not in [each.verdict for each in answered(run)]
    assert "kept of the last evaluation: what a judge said, the quoted answers" in capsys.readouterr().err
    assert EvalReport.read(run / "eval.json") == found


def test_consent_can_be_withdrawn(run: Path) -> None:
    found = evaluate(run, max_answers=4, publish_samples=False, **FAST)
    assert (found.quoted, found.judged is None) == (None, False)


def test_without_new_answers_the_last_ones_stay(run: Path, judged: tuple[Path, EvalReport]) -> None:
    found = evaluate(run, max_answers=0, **FAST)
    assert found.health is not None
    assert judged[1].health is not None
    assert found.health.answers == judged[1].health.answers is not None
    assert answered(run) == answered(judged[0])


def test_another_adapter_or_report_is_not_taken_for_the_last_one(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = EvalReport.read(run / "eval.json")
    assert report.model is not None
    other = report.model.model_copy(update={"sha256": "0" * 64})
    report.model_copy(update={"model": other}).write(run / "eval.json")
    manifest = RunManifest.read(run / "run.json")
    manifest.model_copy(update={"files": manifest.files | entries_of(run, ["eval.json"])}).write(run / "run.json")
    assert evaluate(run, max_answers=4, **FAST).judged is None

    evaluated = EvalReport.read(run / "eval.json")
    evaluated.model_copy(update={"judged": report.judged}).write(run / "eval.json")  # by hand: the hash is another
    assert evaluate(run, max_answers=4, **FAST).judged is None


def test_results_that_are_lost_are_named(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs = [{"prompt": f"And {i}?", "chosen": f"It is {i + 1}.", "rejected": "No idea."} for i in range(4)]
    prepare(pairs, tmp_path / "other", test_size=0)
    found = evaluate(run, dataset=tmp_path / "other", max_answers=0, **FAST)
    assert found.judged is None
    assert "eval.json had results on `prepared`, which it has no longer" in capsys.readouterr().err
    evaluate(run, max_answers=0, **FAST)
    assert "eval.json had results on `other`, which it has no longer" in capsys.readouterr().err


def test_fewer_pairs_than_before_are_named(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evaluate(run, max_pairs=3, max_answers=0, **FAST)
    assert "results on 11 pairs and has them on 3 now; evaluate all pairs" in capsys.readouterr().err
