"""What the README tells people to type exists."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from hubdpo.config import AdoptConfig, EvaluateConfig, MergeConfig, PrepareConfig, PushConfig, SweepConfig, TrainConfig
from tests.benchmarks.tables import TABLES

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
MAKEFILE = (Path(__file__).parents[1] / "Makefile").read_text(encoding="utf-8")
MODELS = {
    "prepare": PrepareConfig,
    "train": TrainConfig,
    "sweep": SweepConfig,
    "adopt": AdoptConfig,
    "evaluate": EvaluateConfig,
    "push": PushConfig,
    "merge": MergeConfig,
}
COMMANDS = sorted(
    set(re.findall(r"^ *(hubdpo (?:prepare|train|sweep|adopt|evaluate|push|merge) .*)$", README, re.MULTILINE))
)


@pytest.mark.parametrize("line", COMMANDS)
def test_options_of_the_commands_exist(line: str) -> None:
    words = shlex.split(line, comments=True)
    flags = {word.partition("=")[0] for word in words if word.startswith("--")}
    fields = {"--" + name.replace("_", "-") for name in MODELS[words[1]].model_fields}
    assert flags <= fields | {"--json", "--quiet", "--config"}


def test_the_commands_are_found() -> None:
    assert len(COMMANDS) >= 4


def test_the_yaml_example_is_a_train_config(tmp_path: Path) -> None:
    example = re.search(r"```yaml\n(.*?)```", README, re.DOTALL)
    assert example
    assert TrainConfig.build(yaml.safe_load(example[1])).max_length == 2048


@pytest.mark.parametrize("target", sorted(set(re.findall(r"^make ([a-z-]+)", README, re.MULTILINE))))
def test_make_targets_exist(target: str) -> None:
    assert re.search(rf"^{target}:", MAKEFILE, re.MULTILINE)


@pytest.mark.parametrize(("name", "table"), TABLES.items())
def test_the_tables_are_what_was_measured(name: str, table: Callable[[dict[str, Any]], str]) -> None:
    report = json.loads((Path(__file__).parent / "benchmarks" / f"{name}.json").read_text(encoding="utf-8"))
    assert table(report) in README


def test_the_tree_is_the_tree() -> None:
    package = Path(__file__).parents[1] / "hubdpo"
    named = set(re.findall(r"^  (\w+)(?:/|\.py)", README.partition("hubdpo/\n")[2], re.MULTILINE))
    assert named == {p.stem for p in package.iterdir() if not p.name.startswith("__") and p.suffix in ("", ".py")}
