"""Editors and type checkers see the public functions as they are."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

from tests.public_stub import STUB, stub

ROOT = Path(__file__).parents[1]

USER = """
from pathlib import Path
import hubdpo

manifest = hubdpo.prepare("pairs.jsonl", Path("data"), test_size=0.1, dedupe="near")
reveal_type(manifest.splits)
run = hubdpo.train("Qwen/Qwen2-0.5B-Instruct", "data", "run", max_steps=3)
reveal_type(hubdpo.push("run", "me/dpo", version="0.1.0").tag)
hubdpo.prepare("pairs.jsonl", "data", dedupe="fuzzy")
hubdpo.train("base", "data")
hubdpo.evaluate("run", max_pair=3)
"""


def test_the_stub_is_what_the_config_models_say() -> None:
    assert STUB.read_text(encoding="utf-8") == stub(), "python -m tests.public_stub"


def test_the_wheel_has_the_stub_and_is_marked_as_typed() -> None:
    shipped = {file.distribution_path for file in WheelBuilder(str(ROOT)).recurse_included_files()}
    assert {"hubdpo/__init__.pyi", "hubdpo/py.typed"} <= shipped


@pytest.mark.slow
def test_a_callers_mistakes_are_found_by_mypy(tmp_path: Path) -> None:
    (tmp_path / "user.py").write_text(USER)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml"), str(tmp_path / "user.py")],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    lines = [line.partition("user.py:")[2] for line in done.stdout.splitlines() if "user.py:" in line]
    notes = [line.rpartition("type is ")[2] for line in lines if "Revealed" in line]
    assert notes == ['"dict[str, int] | Any"', '"str"']
    errors = [line.partition(": error: ") for line in lines if " error: " in line]
    assert [(int(number), text.partition(";")[0]) for number, _, text in errors] == [
        (9, 'Argument "dedupe" to "prepare" has incompatible type "Literal[\'fuzzy\']"'),
        (10, 'Missing positional argument "output_dir" in call to "train"  [call-arg]'),
        (11, 'Unexpected keyword argument "max_pair" for "evaluate"'),
    ]
