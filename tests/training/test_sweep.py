"""A sweep trains every combination on one base, ranks the runs, goes on where it stopped, and loses none to another."""

from __future__ import annotations

import importlib
import json
import shlex
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from test_common import assert_same_run
from test_start import assert_told_early
from typer.testing import CliRunner

from hubdpo import prepare, sweep, train
from hubdpo.artefacts.manifests.evaluation import EvalReport
from hubdpo.artefacts.manifests.run import RunManifest
from hubdpo.artefacts.manifests.sweep import SweepManifest
from hubdpo.cli.app import app
from hubdpo.errors import ConfigError, MachineError, ResumeMismatch, Stopped, TrainingError
from hubdpo.training.common import Common

SHORT = {
    "max_steps": 2, "max_length": 128, "gradient_accumulation_steps": 1, "save_steps": 1, "eval_steps": 2,
    "load_in_4bit": False, "learning_rate": 1e-3,
}  # fmt: skip


@pytest.fixture(scope="module")
def places(tiny_base: Path, dataset_dir: Path) -> dict[str, Any]:
    return {"model_name_or_path": str(tiny_base), "dataset": str(dataset_dir), **SHORT}


@pytest.fixture(scope="module")
def folder(places: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep of three runs, of which the last fails: its warm-up is longer than the run."""
    cache = pytest.MonkeyPatch()
    out = tmp_path_factory.mktemp("sweep") / "out"
    cache.setenv("HUBDPO_CACHE", str(out.parent / "cache"))
    sweep(**places, output_dir=out, warmup_steps=[0, 1, 9])
    cache.undo()
    return out


def read(folder: Path) -> SweepManifest:
    return SweepManifest.read(folder / "sweep.json")


def test_each_run_is_that_of_train(
    folder: Path, places: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HUBDPO_CACHE", str(tmp_path / "cache"))
    for steps in (0, 1):
        train(**places, output_dir=tmp_path / f"{steps}", warmup_steps=steps, reference="cached")
        assert_same_run(folder / f"warmup-steps-{steps}", tmp_path / f"{steps}")


def test_what_was_measured_is_in_the_manifest(folder: Path) -> None:
    runs = {run.name: run for run in read(folder).runs}
    assert [run.status for run in runs.values()] == ["complete", "complete", "failed"]
    for name in ("warmup-steps-0", "warmup-steps-1"):
        report, run = EvalReport.read(folder / name / "eval.json"), RunManifest.read(folder / name / "run.json")
        swept = runs[name]
        assert (swept.accuracy, swept.margin) == (report.reward_accuracy, report.reward_margin)
        assert swept.loss == run.metrics["eval_loss"]
        assert swept.adapter == run.files["adapter_model.safetensors"].sha256
        assert swept.divergence is not None
        assert swept.divergence.pairs == report.pairs
        assert swept.kl is not None
        assert 0 < swept.kl < 1
    assert (folder / "sweep.png").read_bytes().startswith(b"\x89PNG")


def test_a_run_that_fails_has_its_reason_and_loses_no_other(folder: Path) -> None:
    (failed,) = read(folder).failed
    assert failed.name == "warmup-steps-9"
    assert str(failed.reason).startswith("a warm-up of 9 steps does not fit into 2 steps")
    assert "--warmup-steps" in str(failed.reason)


def test_each_run_knows_its_place(folder: Path) -> None:
    manifest = read(folder)
    assert manifest.best is manifest.ranked[0] or manifest.best == manifest.ranked[0]
    for rank, run in enumerate(manifest.ranked, start=1):
        selection = RunManifest.read(folder / run.name / "run.json").selection
        assert selection is not None
        assert (selection.rank, selection.of, selection.not_told_apart) == (rank, 2, len(manifest.like_the_best))


def test_what_the_runs_share_is_made_once(
    places: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts: Counter[str] = Counter()

    def counted(place: str, name: Callable[..., str]) -> None:
        module, _, function = place.rpartition(".")
        own = getattr(importlib.import_module(module), function)

        def call(*args: Any, **kwargs: Any) -> Any:
            counts[name(*args)] += 1
            return own(*args, **kwargs)

        monkeypatch.setattr(place, call)

    counted("hubdpo.training.common.load_base", lambda *args: "load")
    counted("hubdpo.training.run.pairs.tokenised", lambda *args: "pairs")
    counted("hubdpo.training.step.reference._compute", lambda *args: "reference")
    counted("hubdpo.evaluation.ranking.scores_of", lambda model, rows, batch, name, kept, key: name)
    (tmp_path / "cache").touch()  # where nothing can be cached on the disk
    monkeypatch.setenv("HUBDPO_CACHE", str(tmp_path / "cache"))
    sweep(**places, output_dir=tmp_path / "out", beta=[0.1, 0.2])
    # the reference once for each of the two splits
    assert counts == {"load": 1, "pairs": 1, "reference": 2, "base": 1, "adapter": 2}


def test_a_stopped_sweep_goes_on_where_it_was(
    folder: Path, places: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Common.once

    def stopped(self: Common, name: str, make: Any) -> Any:
        if name == "scores of the base" and name in self._made:  # in the second run, after its last step
            raise KeyboardInterrupt
        return asked(self, name, make)

    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(Common, "once", stopped)
        with pytest.raises(Stopped) as caught:
            sweep(**places, output_dir=out, warmup_steps=[0, 1])
    assert [run.status for run in read(out).runs] == ["complete", "waiting"]
    first = (out / "warmup-steps-0" / "adapter_model.safetensors").stat().st_mtime_ns
    words = shlex.split(caught.value.hint)
    assert words[:2] == ["hubdpo", "sweep"]
    done = CliRunner().invoke(app, words[1:])
    assert done.exit_code == 0, done.output
    assert (out / "warmup-steps-0" / "adapter_model.safetensors").stat().st_mtime_ns == first
    assert [run.status for run in read(out).runs] == ["complete", "complete"]
    for name in ("warmup-steps-0", "warmup-steps-1"):
        adapters = [(place / name / "adapter_model.safetensors").read_bytes() for place in (out, folder)]
        assert adapters[0] == adapters[1]


def test_a_changed_grid_adds_runs_and_keeps_those_that_are_no_longer_named(
    places: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    sweep(**places, output_dir=out, seed=[1, 2])
    kept = {run.name: run for run in read(out).runs}
    with pytest.raises(ConfigError, match="holds a sweep"):
        sweep(**places, output_dir=out, seed=[2, 3])
    with pytest.raises(ResumeMismatch, match="beta"):
        sweep(**places, output_dir=out, seed=[2, 3], beta=0.3, resume=True)
    capsys.readouterr()
    manifest = sweep(**places, output_dir=out, seed=[2, 3], resume=True)
    assert "seed-1 is no longer asked for; it stays" in capsys.readouterr().err
    assert {run.name: run.in_grid for run in manifest.runs} == {"seed-2": True, "seed-3": True, "seed-1": False}
    for name in ("seed-1", "seed-2"):
        (run,) = [run for run in manifest.runs if run.name == name]
        assert run.model_copy(update={"in_grid": True}) == kept[name]
    assert len(manifest.ranked) == 3


@pytest.mark.parametrize("problem", [TrainingError("the loss is nan", hint="lower it"), MachineError("no room")])
def test_an_error_of_the_machine_ends_the_sweep_and_one_of_a_run_does_not(
    places: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, problem: Exception
) -> None:
    def failing(*args: object) -> None:
        raise problem

    monkeypatch.setattr("hubdpo.training.train.choose_forward", failing)
    out = tmp_path / "out"
    words = [word for name, value in places.items() if name != "load_in_4bit" for word in (f"--{name}", str(value))]
    words = [word.replace("_", "-") if word.startswith("--") else word for word in words]
    done = CliRunner().invoke(
        app, ["sweep", "-o", str(out), *words, "--no-load-in-4bit", "--beta", "0.1", "0.2", "--json"]
    )
    if isinstance(problem, MachineError):
        assert done.exit_code == 9
        assert "--beta 0.1 0.2 --resume" in " ".join(done.stderr.split())
    else:
        assert done.exit_code == 8
        assert [run["status"] for run in json.loads(done.stdout)["runs"]] == ["failed", "failed"]
        assert "the loss is nan (hint: lower it)" in " ".join(done.stderr.split())


def test_a_dry_run_checks_and_writes_nothing(
    places: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = sweep(**places, output_dir=tmp_path / "out", beta=[0.1, 0.2], dry_run=True)
    assert [run.status for run in manifest.runs] == ["waiting", "waiting"]
    said = capsys.readouterr().err
    assert said.count("preflight") == 1
    assert "beta-0.2" in said
    assert not (tmp_path / "out").exists()


def test_data_without_held_out_pairs_is_told_before_the_first_run(
    places: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"prompt": f"{i}?", "chosen": f"It is {i}.", "rejected": "No idea."} for i in range(8)]
    prepare(rows, tmp_path / "data", test_size=0)
    capsys.readouterr()
    sweep(**{**places, "dataset": tmp_path / "data"}, output_dir=tmp_path / "out", beta=[0.1, 0.2], dry_run=True)
    said = capsys.readouterr().err
    assert said.index("the dataset has no test split, so no run will be called the best") < said.index("preflight")


def test_mistakes_are_told_before_torch_is_imported(
    folder: Path, tiny_base: Path, dataset_dir: Path, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()
    good = ["sweep", "--model-name-or-path", str(tiny_base), "--dataset", str(dataset_dir), "--seed", "1", "2", "-o"]
    best = read(folder).best
    assert best is not None
    mistakes = [
        (2, [*good, "out", "--beta", "0.1", "-1"], "this is the run `beta--1_seed-1`"),
        (2, [*good, "out", "--max-length", "64", "128"], "`--max-length` has one value in a sweep"),
        (2, [*good, "out", "--lora-target-modules", "q_proj,v_proj", "c_attn"], "modules-c_attn_seed-1`"),
        (2, [*good, "out", "--num-processes", "2"], "a sweep runs in one process"),
        (2, [*good, "other"], "holds files that are not a sweep"),
        (2, [*good, "out", "--resume"], "there is no sweep in `out` to resume"),
        (2, [*good, str(folder)], "holds a sweep"),
        (3, ["evaluate", str(folder)], f"hint: {folder / best.name}"),
        (3, ["train", *good[1:5], "-o", "run", "--adapter", str(folder)], "is a sweep of 3 runs"),
        (3, ["inspect", str(folder)], "is a sweep of 3 runs"),
        (3, ["merge", str(folder), "-o", "m"], "is a sweep of 3 runs"),
        (3, ["diff", str(folder / best.name), str(folder)], "is a sweep of 3 runs"),
    ]
    assert_told_early(mistakes, tmp_path)
    assert not (tmp_path / "out").exists()


def test_a_tracker_with_one_run_a_process_is_refused(
    places: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hubdpo.training.start.installed", lambda names: names)
    with pytest.raises(ConfigError, match="`wandb` keeps one run a process"):
        sweep(**places, output_dir=tmp_path / "out", beta=[0.1, 0.2], report_to=["wandb"])
    assert not (tmp_path / "out").exists()


def test_a_sweep_may_start_from_an_adapter(
    places: dict[str, Any], run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HUBDPO_CACHE", str(tmp_path / "cache"))
    started = {**places, "adapter": str(run_dir), "max_steps": 1, "load_in_4bit": True}
    with pytest.raises(ConfigError, match="contradicts the adapter.*this is the run `lora-r-8`"):
        sweep(**started, output_dir=tmp_path / "out", lora_r=[16, 8])
    manifest = sweep(**started, output_dir=tmp_path / "out", seed=[1, 2])
    assert [run.status for run in manifest.runs] == ["complete", "complete"]
    assert all(run.kl is not None and run.kl > 0 for run in manifest.runs)
    train(**started, output_dir=tmp_path / "alone", seed=2, reference="cached")
    assert_same_run(tmp_path / "out" / "seed-2", tmp_path / "alone")
