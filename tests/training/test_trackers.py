"""Trackers are known and installed before anything is written, and leave no files in a release."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

import pytest
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

from hubdpo import train
from hubdpo.artefacts.folders.kinds import read_run
from hubdpo.config import PushConfig, TrainConfig
from hubdpo.config.trackers import TRACKERS, in_project, installed
from hubdpo.errors import ConfigError
from hubdpo.release.drafts import adapter_draft
from hubdpo.training.step.arguments import dpo_config

NAMES = {"model_name_or_path": "x/y", "dataset": "d", "output_dir": "r"}


def without(monkeypatch: pytest.MonkeyPatch, *packages: str) -> None:
    real = importlib.util.find_spec

    def find(name: str, *rest: Any) -> Any:
        return None if name in packages else real(name, *rest)

    monkeypatch.setattr(importlib.util, "find_spec", find)


@pytest.mark.parametrize("name", TRACKERS)
def test_a_missing_tracker_package_is_refused_before_anything_is_written(
    tiny_base: Path, dataset_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    without(monkeypatch, name, "tensorboardX")
    with pytest.raises(ConfigError, match=f"--report-to {name}") as caught:
        train(
            model_name_or_path=str(tiny_base), dataset=str(dataset_dir), output_dir=tmp_path / "run", report_to=[name]
        )
    assert caught.value.hint == f"pip install {name}"
    assert not (tmp_path / "run").exists()


def test_an_unknown_tracker_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="there is no `aim`") as caught:
        TrainConfig.build({**NAMES, "report_to": ["aim"]})
    assert caught.value.hint == f"choose from: {', '.join(TRACKERS)}, all, none"


def test_the_trackers_are_known_to_transformers() -> None:
    assert set(TRACKERS) <= set(INTEGRATION_TO_CALLBACK)


def test_none_means_no_tracker() -> None:
    assert TrainConfig.build({**NAMES, "report_to": ["none"]}).report_to == []


def test_none_is_not_combined_with_a_tracker() -> None:
    with pytest.raises(ConfigError, match="`none` cannot be combined"):
        TrainConfig.build({**NAMES, "report_to": ["none", "wandb"]})


def test_all_means_those_whose_package_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    there = {"mlflow", "swanlab"}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name if name in there else None)
    assert installed(["all"]) == ["mlflow", "swanlab"]
    assert installed([]) == []


@pytest.mark.parametrize(
    ("chosen", "names"),
    [({}, ("r", "huggingface")), ({"run_name": "first", "project": "ours"}, ("first", "ours"))],
)
def test_a_run_has_its_name_in_trackers(chosen: dict[str, Any], names: tuple[str, str]) -> None:
    args = dpo_config(TrainConfig.build({**NAMES, **chosen}), device="cpu", steps=1, evaluates=False)
    assert (args.run_name, args.project) == names


def test_the_project_is_told_to_trackers_for_as_long_as_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_PROJECT", "theirs")
    monkeypatch.delenv("SWANLAB_PROJECT", raising=False)
    with in_project("ours"):
        assert (os.environ["WANDB_PROJECT"], os.environ["SWANLAB_PROJECT"]) == ("ours", "ours")
    with in_project(None):
        assert os.environ["WANDB_PROJECT"] == "theirs"
    assert (os.environ["WANDB_PROJECT"], os.environ.get("SWANLAB_PROJECT")) == ("theirs", None)


def test_what_a_tracker_leaves_in_the_run_folder_is_not_released(run_dir: Path) -> None:
    run = read_run(run_dir)
    left = run_dir / "runs" / "Nov24_host" / "events.out.tfevents.1"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"x")
    try:
        names = adapter_draft(PushConfig(folder=run_dir, repo="alice/x", version="0.1.0"), run, run.base).files
    finally:
        left.unlink()
    assert not [name for name in names if "tfevents" in name]
    assert "report_to" not in run.config
