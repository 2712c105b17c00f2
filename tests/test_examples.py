"""The config files of examples/ are valid, are in the index, and do what they say on rows of the published shape."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from hubdpo import load_preferences, prepare
from hubdpo.config import PrepareConfig, TrainConfig
from tests.data import made_tools
from tests.data.made import lines
from tests.data.shapes.groups import GROUPS
from tests.data.shapes.pairs import PAIRS

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
FILES = sorted(path.name for path in EXAMPLES.glob("*.yaml"))
PREPARE = [name for name in FILES if name.startswith("prepare-")]
TRAIN = [name for name in FILES if name.startswith("train-")]
COUNT = 40
SHAPES = {
    "prepare-ultrafeedback.yaml": {**GROUPS, **PAIRS}["ultrafeedback"],
    "prepare-helpsteer2.yaml": {**GROUPS, **PAIRS}["helpsteer2"],
    "prepare-stack-exchange.yaml": PAIRS["stack-exchange-paired"],
    "prepare-hh-rlhf.yaml": PAIRS["hh-rlhf"],
}
INDEX = (EXAMPLES / "README.md").read_text(encoding="utf-8")


def raw(name: str) -> bytes:
    """Return rows of the shape that an example reads."""
    if name == "prepare-tools.yaml":
        tool = {**made_tools.TOOL}
        return lines([made_tools.row(n, tools=[tool]) for n in range(COUNT)])
    shape = SHAPES[name]
    if name == "prepare-ultrafeedback.yaml":
        rows = [shape.row(n) for n in range(COUNT)]
        for row in rows:  # the shape of the other tests has its preference in the overall score alone
            for answer in row["completions"]:
                answer["fine-grained_score"], answer["overall_score"] = answer["overall_score"], 5
        return shape.whole(rows)
    return shape.whole([shape.row(n) for n in range(COUNT)])


@pytest.mark.parametrize("name", FILES)
def test_an_example_is_a_config_of_its_command(name: str) -> None:
    config = (PrepareConfig if name in PREPARE else TrainConfig).build({}, file=EXAMPLES / name)
    assert set(yaml.safe_load((EXAMPLES / name).read_text(encoding="utf-8"))) <= config.model_fields_set


def test_the_index_has_each_example_with_the_command_that_runs_it() -> None:
    commands = re.findall(r"`hubdpo (\w+) --config examples/(\S+)`", INDEX)
    assert sorted(file for _, file in commands) == sorted([*PREPARE, *TRAIN]) == FILES
    assert all(file.startswith(f"{command}-") for command, file in commands)
    assert sorted(re.findall(r"\]\((\S+\.yaml)\)", INDEX)) == FILES


@pytest.mark.parametrize("name", PREPARE)
def test_an_example_prepares_rows_of_the_published_shape(name: str, tiny_base: Path, tmp_path: Path) -> None:
    base = made_tools.base_with_tools(tiny_base, tmp_path / "base") if "tools" in name else tiny_base
    for split in ("train", "test"):  # as in the folders of the sources with a published split
        (tmp_path / "raw").mkdir(exist_ok=True)
        rows = raw(name).splitlines(keepends=True)
        part = rows[: -len(rows) // 4] if split == "train" else rows[-len(rows) // 4 :]
        (tmp_path / "raw" / f"{split}.jsonl").write_bytes(b"".join(part))
    options: dict[str, Any] = yaml.safe_load((EXAMPLES / name).read_text(encoding="utf-8"))
    prepare(**{**options, "source": [str(tmp_path / "raw")], "output_dir": tmp_path / "data", "model": base})
    pairs = load_preferences(tmp_path / "data")
    found = [pair for split in pairs.values() for pair in split]
    assert {*pairs} == {"train", "test"}
    assert found
    wanted = "At ten past six." if "tools" in name else "GOOD"
    assert all(pair["chosen"][-1]["content"].startswith(wanted) for pair in found)


def test_the_figures_of_memory_and_speed_are_those_of_the_measurement() -> None:
    measured = json.loads((ROOT / "tests" / "benchmarks" / "gpu.json").read_text(encoding="utf-8"))
    known = {f"{arm[key]:g}" for arm in measured["arm"] if arm["ok"] for key in ("peak_gb", "pairs_per_s")}
    for name in TRAIN:
        text = (EXAMPLES / name).read_text(encoding="utf-8")
        assert {*re.findall(r"\d+\.\d+(?= GB| pairs a second)", text)} <= known
