"""`--help` shows every name whole, however narrow the terminal is, and the shell completes choices."""

from __future__ import annotations

import re

import pytest
import typer
from typer.testing import CliRunner

from hubdpo.cli.app import app
from hubdpo.config import EvaluateConfig, MergeConfig, PrepareConfig, PushConfig, TrainConfig

MODELS = {
    "prepare": PrepareConfig, "train": TrainConfig, "evaluate": EvaluateConfig, "merge": MergeConfig, "push": PushConfig
}  # fmt: skip
COMMANDS = [command.name or command.callback.__name__ for command in app.registered_commands if command.callback]


def shown(command: str, columns: int) -> str:
    return CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": str(columns)}).stdout


@pytest.mark.parametrize("columns", [80, 60])
@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_every_name_of_a_command_whole(command: str, columns: int) -> None:
    text = shown(command, columns)
    [parsed] = [each for name, each in typer.main.get_command(app).commands.items() if name == command]  # type: ignore[attr-defined]
    words = set(re.findall(r"(?<![\w-])--?[a-z][\w-]*", text))
    options = [each for each in parsed.params if each.param_type_name == "option"]
    assert {name for option in options for name in (*option.opts, *option.secondary_opts)} <= words
    assert max(map(len, text.splitlines())) <= columns


@pytest.mark.parametrize("command", MODELS)
def test_help_shows_every_choice(command: str) -> None:
    model, text = MODELS[command], shown(command, 80)
    for name in model.model_fields:
        assert set(model.choices_of(name)) <= set(re.findall(r"[\w/-]+", text)), name


def test_help_leaves_brackets_and_quotes_as_they_are() -> None:
    words = " ".join(shown("train", 80).replace("│", " ").split())
    assert '{"min_lr_rate": 0.1}' in words
    assert "USER/NAME[@REVISION]" in words
    assert "[default: online]" in words


def test_choices_are_those_of_literals_and_of_named_lists() -> None:
    assert TrainConfig.choices_of("reference") == ("online", "cached")
    assert TrainConfig.choices_of("lr_scheduler_type")[:2] == ("linear", "cosine")
    assert TrainConfig.choices_of("tokens_per_batch") == ("auto",)
    assert TrainConfig.choices_of("beta") == ()


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("hubdpo train --reference c", ["cached"]),
        ("hubdpo train --lr-scheduler-type cosine_wi", ["cosine_with_restarts", "cosine_with_min_lr"]),
        ("hubdpo train --warmup-r", ["--warmup-ratio"]),
        ("hubdpo merge --base-weights ", ["as-trained", "original"]),
        ("hubdpo mer", ["merge"]),
    ],
)  # fmt: skip
def test_the_shell_completes_options_and_their_choices(typed: str, completed: list[str]) -> None:
    environment = {
        "_HUBDPO_COMPLETE": "complete_bash",
        "COMP_WORDS": typed,
        "COMP_CWORD": str(len(typed.split(" ")) - 1),
    }
    found = CliRunner().invoke(app, [], prog_name="hubdpo", env=environment).stdout.split()
    assert found == completed
