"""Data on stdout, talk on stderr, in the format that was asked for."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hubdpo import console
from hubdpo.cli.app import app, spell
from hubdpo.cli.command import MODELS
from hubdpo.data.converters import NAMES


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    monkeypatch.setattr(console.output, "format", console.Format.human)
    return CliRunner()


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    path = tmp_path / "raw.jsonl"
    path.write_text("".join(f'{{"prompt": "p{i}", "chosen": "good", "rejected": "bad"}}\n' for i in range(20)))
    return path


def test_json_gives_one_object(runner: CliRunner, raw: Path, tmp_path: Path) -> None:
    done = runner.invoke(app, ["prepare", str(raw), "-o", str(tmp_path / "out"), "--json"])
    assert json.loads(done.stdout)["funnel"] == {"read": 20, "kept": 20, "dropped": {}, "added": 0, "joined": 0}


def test_quiet_gives_the_identifier_alone(runner: CliRunner, raw: Path, tmp_path: Path) -> None:
    done = runner.invoke(app, ["prepare", str(raw), "-o", str(tmp_path / "out"), "-q"])
    assert done.stdout == f"{tmp_path / 'out'}\n"
    assert "hint" not in done.stderr


def test_people_get_the_count_and_the_next_command(runner: CliRunner, raw: Path, tmp_path: Path) -> None:
    done = runner.invoke(app, ["prepare", str(raw), "-o", str(tmp_path / "out")])
    assert "20 pairs kept of 20 rows read" in done.stdout
    assert "hint: hubdpo train --model-name-or-path Qwen/Qwen2-7B-Instruct" in done.stderr


def test_rows_with_tools_are_offered_a_base_whose_template_shows_them(
    runner: CliRunner, raw: Path, tmp_path: Path
) -> None:
    tools = [{"type": "function", "function": {"name": "f"}}]
    rows = [json.loads(line) for line in raw.read_text().splitlines()]
    raw.write_text("".join(json.dumps({**row, "tools": tools}) + "\n" for row in rows))
    done = runner.invoke(app, ["prepare", str(raw), "-o", str(tmp_path / "out")])
    assert "hint: hubdpo train --model-name-or-path Qwen/Qwen3-8B" in done.stderr
    assert "with tools  20" in done.stderr


@pytest.mark.parametrize("name", ["with a blank", "-x", "it's", "a\nb"])
def test_the_next_command_can_be_pasted_whatever_the_folder_is_called(
    runner: CliRunner, raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    said: list[str] = []
    monkeypatch.setattr(console, "hint", said.append)
    runner.invoke(app, ["prepare", str(raw), f"--output-dir={name}"])
    words = shlex.split(said[-1])
    place = words[words.index("--dataset") + 1]
    assert Path(place) == Path(name)
    assert not place.startswith("-")


def test_options_come_from_a_file_under_the_flags(runner: CliRunner, raw: Path, tmp_path: Path) -> None:
    file = tmp_path / "prepare.yaml"
    file.write_text(f"source: [{raw}]\noutput-dir: {tmp_path / 'from-file'}\ntest-size: 0\n")
    done = runner.invoke(app, ["prepare", "--config", str(file), "-o", str(tmp_path / "from-flag"), "--json"])
    assert json.loads(done.stdout)["splits"] == {"train": 20}
    assert (tmp_path / "from-flag").is_dir()
    assert not (tmp_path / "from-file").exists()


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("--max_steps", "--max-steps"),
        ("--max_steps=a_b", "--max-steps=a_b"),
        ("a_b", "a_b"),
        ("--", "--"),
        ("-o", "-o"),
    ],
)
def test_underscores_work_in_option_names(typed: str, read: str) -> None:
    assert spell(typed) == read


@pytest.mark.parametrize(
    "name", ["prepare", "train", "evaluate", "push", "verify", "diff", "merge", "load", "serve-hub", "doctor", "demo"]
)
def test_every_command_has_help(runner: CliRunner, name: str) -> None:
    done = runner.invoke(app, [name, "--help"])
    assert done.exit_code == 0
    assert f"hubdpo {name}" in done.stdout or f"{name} [OPTIONS]" in done.stdout


@pytest.mark.parametrize("words", [["What is it?"], ["--prompt", "What is it?"], ["-p", "What is it?"]])
def test_load_takes_the_prompt_as_a_word_or_an_option(
    words: list[str], runner: CliRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hubdpo.model.adapters import load

    monkeypatch.setattr(load, "load_adapter", lambda adapter: adapter)
    monkeypatch.setattr(load, "answer", lambda loaded, prompt, *, max_new_tokens: f"{loaded}: {prompt}")
    assert runner.invoke(app, ["load", "alice/run", *words]).stdout == "alice/run: What is it?\n"


@pytest.mark.parametrize("words", [[""], ["--prompt", ""], [" \n"]])
def test_load_refuses_an_empty_prompt_before_it_loads(words: list[str], runner: CliRunner) -> None:
    done = runner.invoke(app, ["load", "alice/run", *words])
    assert (done.exit_code, "the prompt is empty" in done.stderr) == (2, True)


def test_load_refuses_two_prompts_before_it_loads(runner: CliRunner) -> None:
    done = runner.invoke(app, ["load", "run", "one", "--prompt", "two"])
    assert (done.exit_code, "two prompts are given" in done.stderr) == (2, True)


@pytest.mark.parametrize("name", [*NAMES, "stack-exchange"])
def test_a_converter_after_format_as_before_gets_its_option_now(runner: CliRunner, raw: Path, name: str) -> None:
    done = runner.invoke(app, ["prepare", str(raw), "--format", name])
    assert done.exit_code == 2
    assert done.stderr.splitlines()[-1] == f"hint: --converter {name}"


@pytest.mark.parametrize(
    ("words", "hint"),
    [("prepare SOURCE --format jsn", "--format json"), ("train --format xml", "one of: human, json, quiet")],
)
def test_no_format_of_output_gets_one(runner: CliRunner, words: str, hint: str) -> None:
    done = runner.invoke(app, words.split())
    assert (done.exit_code, done.stderr.splitlines()[-1]) == (2, f"hint: {hint}")


def test_no_option_of_a_command_is_called_as_one_of_its_output() -> None:
    assert MODELS
    for model in MODELS.values():
        assert {"format", "json", "quiet", "config"}.isdisjoint(model.model_fields)
