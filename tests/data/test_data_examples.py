"""The files that the pages about data describe are read as they say."""

from __future__ import annotations

import html
import re
import shlex
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from hubdpo import load_preferences
from hubdpo.cli.app import app
from hubdpo.config import PrepareConfig
from hubdpo.config.description import PLACES, Description, SourceConfig
from tests.data.made import lines

ROOT = Path(__file__).parents[2]
FORMATS, GUIDE = (
    (ROOT / "docs" / "how-to" / name).read_text(encoding="utf-8") for name in ("formats.md", "describe.md")
)
SECTION = FORMATS.partition("## I have a file like this")[2].partition("\n## ")[0]
EXAMPLES = re.findall(r"^\| (`\{.*\}`) \| `(.*)` \|$", SECTION, re.MULTILINE)


@pytest.mark.parametrize(("row", "options"), EXAMPLES)
def test_a_file_of_the_page_is_read(row: str, options: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [html.unescape(text) for text in re.findall(r"`([^`]+)`", row)]
    Path("rows.jsonl").write_text("\n".join(rows), encoding="utf-8")
    typed = ["prepare", "rows.jsonl", "-o", "data", "--test-size", "0", *shlex.split(options)]
    result = CliRunner().invoke(app, typed)
    assert result.exit_code == 0, result.output
    (pair,) = load_preferences("data")["train"]
    assert [pair[side][-1]["content"] for side in ("prompt", "chosen", "rejected")] == ["Q", "good", "bad"]


def test_the_page_has_eight_examples_or_more() -> None:
    assert len(EXAMPLES) >= 8


def test_the_guide_joins_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    votes = [{"question": {"full_text": f"v{n}"}, "answer_0": f"x{n}", "answer_1": f"y{n}", "preferred": n % 2}
             for n in range(40)]  # fmt: skip
    Path("votes.jsonl").write_bytes(lines(votes))
    Path("published").mkdir()
    for split, count in (("train", 5), ("test", 3)):
        pairs = [{"prompt": f"{split} {n}", "chosen": f"c{n}", "rejected": f"r{n}"} for n in range(count)]
        (Path("published") / f"{split}.jsonl").write_bytes(lines(pairs))
    (example,) = re.findall(r"```yaml\n(.*?)```", GUIDE, re.DOTALL)
    Path("data.yaml").write_text(example, encoding="utf-8")
    result = CliRunner().invoke(app, ["prepare", "--config", "data.yaml"])
    assert result.exit_code == 0, result.output
    splits = load_preferences("data")
    test = splits["test"]
    assert sum(source == "published" for source in splits["train"]["source"]) == 10  # 5 pairs, twice
    assert sum(source == "published" for source in test["source"]) == 3
    assert 0 < sum(source == "votes" for source in test["source"]) < 20


@pytest.mark.parametrize("name", [*Description.model_fields, *SourceConfig.model_fields])
def test_every_key_of_a_description_is_in_the_guide(name: str) -> None:
    assert f"`{name}`" in GUIDE


def test_every_key_of_the_guide_exists() -> None:
    tables = re.findall(r"^\| ((?:`[a-z_]+`(?:, | with | or )?|with |or )+) \|", GUIDE, re.MULTILINE)
    named = {name for cell in tables for name in re.findall(r"`([a-z_]+)`", cell)}
    assert named >= {*PLACES} - {"label", "margin"} and named <= {*SourceConfig.model_fields}


def test_the_commands_of_the_guide_are_run_by_hubdpo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("rows.jsonl").write_bytes(lines([{"prompt": "Q", "chosen": "good", "rejected": "bad"}]))
    first, second = re.findall(r"```bash\nhubdpo (.*)\n```", GUIDE)
    described = CliRunner().invoke(app, shlex.split(first.partition(" > ")[0]))
    Path("data.yaml").write_text(described.stdout, encoding="utf-8")
    assert yaml.safe_load(described.stdout)["chosen"] == "chosen"
    assert CliRunner().invoke(app, [*shlex.split(second), "--test-size", "0"]).exit_code == 0
    assert PrepareConfig.build({"output_dir": "d"}, file=Path("data.yaml")).chosen == "chosen"
