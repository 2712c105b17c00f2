"""What README and docs say of measurements and of the package is true."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks import needs, tables

ROOT = Path(__file__).parents[1]
README, README_ZH = (page.read_text(encoding="utf-8") for page in needs.NEEDS)
MEASUREMENTS = tables.MEASUREMENTS.read_text(encoding="utf-8")
MAP = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("## The map")[2]
LONGEST = 150
"""Lines of the README: two screens, and the tables."""


def report(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((tables.HERE / f"{name}.json").read_text(encoding="utf-8"))
    return found


@pytest.mark.parametrize(("name", "table"), tables.TABLES.items())
def test_the_tables_are_what_was_measured(name: str, table: Callable[[dict[str, Any]], str]) -> None:
    assert table(report(name)) in MEASUREMENTS


def test_what_a_gpu_needs_is_what_was_measured() -> None:
    for page, words in needs.NEEDS.items():
        assert needs.needs_table(report("gpu"), words) in page.read_text(encoding="utf-8")
    assert tables.gpu_table(report("gpu")) in MEASUREMENTS


def test_each_readme_is_short_and_names_the_other() -> None:
    assert max(len(text.splitlines()) for text in (README, README_ZH)) <= LONGEST
    assert "](README.zh.md)" in README
    assert "](README.md)" in README_ZH


def test_both_say_the_same_of_where_it_has_run() -> None:
    said = [re.findall(r"\*\*(?:Where it has run|跑过的环境).*?\n\n", text, re.DOTALL) for text in (README, README_ZH)]
    english, chinese = (re.findall(r"[A-Z]\w*\d\w*|ZeRO-\d|FSDP \d|\d\.\d+", text, re.ASCII) for (text,) in said)
    assert english == chinese


def test_the_map_has_every_room() -> None:
    named = {name for cell in re.findall(r"^\| (`.*?) \|", MAP, re.MULTILINE) for name in re.findall(r"`(\w+)`", cell)}
    package = ROOT / "hubdpo"
    assert named == {p.stem for p in package.iterdir() if not p.name.startswith("__") and p.suffix in ("", ".py")}
