"""Options stand in groups that a reader can take in at once, and `--help` shows the groups."""

from __future__ import annotations

import inspect

import pytest
from typer.testing import CliRunner

from hubdpo.cli.app import app
from hubdpo.config import EvaluateConfig, MergeConfig, PrepareConfig, PushConfig, TrainConfig
from hubdpo.config.base import Config

MODELS = (PrepareConfig, TrainConfig, EvaluateConfig, MergeConfig, PushConfig)


def groups(model: type[Config]) -> list[type[Config]]:
    return [base for base in model.__mro__ if issubclass(base, Config) and base is not Config]


@pytest.mark.parametrize("model", MODELS)
def test_no_model_declares_more_than_25_options(model: type[Config]) -> None:
    for group in groups(model):
        assert len([name for name in inspect.get_annotations(group) if name in model.model_fields]) <= 25, group


@pytest.mark.parametrize(("command", "model"), [("prepare", PrepareConfig), ("train", TrainConfig)])
def test_help_shows_every_group(command: str, model: type[Config]) -> None:
    text = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200"}).stdout
    panels = {group.panel for group in groups(model) if group.panel}
    assert len(panels) >= 6
    for panel in panels:
        assert f"─ {panel} ─" in text


def test_the_first_options_of_train_are_those_of_every_run() -> None:
    assert list(TrainConfig.model_fields)[:4] == ["model_name_or_path", "model_revision", "dataset", "output_dir"]
