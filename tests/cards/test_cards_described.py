"""The cards of datasets from described sources, with weights and with tools."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from hubdpo import load_preferences, prepare
from hubdpo.artefacts.manifests.manifest import PREPARE_FILE
from hubdpo.artefacts.manifests.prepare import PrepareManifest
from hubdpo.cards.commands import config_file, prepare_command
from hubdpo.cli.app import app
from hubdpo.hub.snapshot import FolderSnapshot
from hubdpo.release.changelog import changed_options, config_of
from tests.data.made import contents, lines, rows
from tests.data.made_tools import TOOL, call, calls, row, say


def card_of(folder: Path, name: str = "out") -> str:
    return (folder / name / "README.md").read_text(encoding="utf-8")


def samples_of(card: str) -> list[str]:
    return re.findall(r"```text\n(.*?)\n```", card.split("## Samples")[1], re.DOTALL)


SOURCES: list[dict[str, Any]] = [
    {"path": "votes.jsonl", "prompt": "q.text", "answers": ["a", "b"], "vote": "v", "first": 0, "second": [1, "b"],
     "split": 0.3, "name": "votes: `x`"},
    {"path": ["one.jsonl", "two.jsonl"], "weight": 2, "max_rows": 12, "name": "names"},
]  # fmt: skip


def test_the_command_of_described_sources_makes_the_same_dataset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from typer.testing import CliRunner

    monkeypatch.chdir(tmp_path)
    votes = [{"q": {"text": f"q{i}"}, "a": "x", "b": "y", "v": i % 2} for i in range(20)]
    for name, values in (("votes", votes), ("one", rows(10)), ("two", rows(20)[10:])):
        (tmp_path / f"{name}.jsonl").write_bytes(lines(values))
    prepare(sources=SOURCES, output_dir="out", test_size=0.2, dedupe="near")
    config, command = (
        re.findall(rf"```{language}\n(.*?)\n```", card_of(tmp_path), re.DOTALL)[0] for language in ("yaml", "bash")
    )
    assert [item["path"] for item in yaml.safe_load(config)["sources"]] == [source["path"] for source in SOURCES]
    (tmp_path / "prepare.yaml").write_text(config, encoding="utf-8")
    words = shlex.split(command.split("\n", 1)[1].replace("\\\n", " "))
    done = CliRunner().invoke(app, words[1:])
    assert done.exit_code == 0, done.stderr
    assert contents(tmp_path / "data") == contents(tmp_path / "out")


def test_a_manifest_with_the_option_format_of_earlier_versions_gives_the_commands_of_now(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(lines(rows(9)))
    one = prepare(source=str(tmp_path / "a.jsonl"), output_dir=tmp_path / "one", converter="preference")
    described = {"path": str(tmp_path / "a.jsonl"), "converter": "preference"}
    two = prepare(sources=[described], output_dir=tmp_path / "two")
    for folder, manifest in ((tmp_path / "one", one), (tmp_path / "two", two)):
        before = json.loads((folder / PREPARE_FILE).read_text())
        config = json.dumps(before["config"]).replace('"converter":', '"format":')
        (folder / PREPARE_FILE).write_text(json.dumps({**before, "config": json.loads(config)}))
        read = PrepareManifest.read(folder / PREPARE_FILE)
        assert "format" in read.config
        assert prepare_command(read, shipped_cards={}) == prepare_command(manifest, shipped_cards={})
        assert config_file(read) == config_file(manifest)
        assert changed_options(config_of(FolderSnapshot(folder)), manifest.config) == {}
        load_preferences(folder)


def test_a_pair_that_is_written_twice_is_one_sample(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(lines(rows(3)))
    prepare(sources=[{"path": str(tmp_path / "a.jsonl"), "weight": 3}], output_dir=tmp_path / "out", test_size=0)
    first, second = samples_of(card_of(tmp_path))
    assert first != second


def test_samples_show_tools_and_who_speaks_in_an_answer(tmp_path: Path) -> None:
    answer = [calls(call()), say("tool", "06:10"), say("assistant", "At six.")]
    (tmp_path / "a.jsonl").write_bytes(lines([row(1, tools=[TOOL], chosen=answer)]))
    prepare(source=str(tmp_path / "a.jsonl"), output_dir=tmp_path / "out", test_size=0)
    shown = samples_of(card_of(tmp_path))[0].splitlines()
    assert shown[0].startswith('[tools] [{"type":"function"')
    assert shown[-3:] == ["[chosen, tool] 06:10", "[chosen] At six.", "[rejected] No"]
