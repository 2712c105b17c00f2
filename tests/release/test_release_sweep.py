"""`push` of a sweep takes its best run, and the card says that the run was chosen by its score."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from huggingface_hub import HfApi, hf_hub_download

from hubdpo import push
from hubdpo.artefacts.manifests.chosen import Selection
from hubdpo.artefacts.manifests.intervals import Accuracy
from hubdpo.artefacts.manifests.run import RunManifest
from hubdpo.artefacts.manifests.sweep import SweepManifest, SweptRun


@pytest.fixture
def sweep(run_dir: Path, tmp_path: Path) -> Path:
    """Two copies of a finished run, of which the second one is better."""
    runs = []
    for rank, (name, right) in enumerate((("beta-0.2", 10), ("beta-0.1", 6)), start=1):
        folder = Path(shutil.copytree(run_dir, tmp_path / "out" / name))
        manifest = RunManifest.read(folder / "run.json")
        chosen = Selection(rank=rank, of=2, not_told_apart=1)
        manifest.model_copy(update={"selection": chosen}).write(folder / "run.json")
        accuracy = Accuracy.of(right, 11)
        runs.append(SweptRun(name=name, values={}, status="complete", pairs=11, accuracy=accuracy, margin=0.1))
    SweepManifest(hubdpo_version="0", again="", runs=runs[::-1]).write(tmp_path / "out" / "sweep.json")
    return tmp_path / "out"


def test_a_sweep_is_pushed_as_its_best_run(
    sweep: Path, repo_id: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    release = push(folder=sweep, repo=repo_id, version="1.0.0", check="hashes")
    said = " ".join(capsys.readouterr().err.split())
    assert f"takes {sweep / 'beta-0.2'}, the best run of the sweep: held-out reward accuracy 90.9%" in said
    assert "11 pairs cannot tell it from 1 other run" in said
    assert "sweep.json" not in HfApi().list_repo_files(repo_id)
    card = " ".join(Path(hf_hub_download(repo_id, "README.md", cache_dir=tmp_path / "cache")).read_text().split())
    assert "It is the best of 2 runs with other options, ranked by their reward accuracy on these same pairs." in card
    assert "makes the score of the chosen run optimistic, and the 95 % interval of 1 other run overlaps that" in card
    again = push(folder=sweep / "beta-0.2", repo=repo_id, version="1.0.0", check="hashes")
    assert again.commit == release.commit


def test_another_run_can_be_pushed_and_its_card_has_its_rank(sweep: Path, repo_id: str, tmp_path: Path) -> None:
    push(folder=sweep / "beta-0.1", repo=repo_id, version="1.0.0", check="hashes")
    card = " ".join(Path(hf_hub_download(repo_id, "README.md", cache_dir=tmp_path / "cache")).read_text().split())
    assert "It is number 2 of 2 runs with other options" in card
