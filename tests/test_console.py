"""What is printed obeys nobody but us: text of repos, rows and file names moves no cursor and forges no colour."""

from __future__ import annotations

import ast
import json
import logging
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.progress import TextColumn

from hubdpo import console
from hubdpo.cli.app import main

PACKAGE = Path(__file__).parents[1] / "hubdpo"
EVIL = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202etxt.\x7f\b\r"
SPELLED = r"\u001b]0;owned\u0007\u001b[2J\u009b31m\u202etxt.\u007f\u0008\u000d"
NAME = "e\x1b[31mvil\x9b"


def unprintable(text: str) -> set[str]:
    return set(console._UNPRINTABLE.findall(text))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (EVIL, SPELLED),
        ("two\r\nlines\tand a tab\n", "two\nlines\tand a tab\n"),
        ("na\u00efve \u4f60\u597d \U0001f469\u200d\U0001f680 \u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",) * 2,
        (b"caf\xe9".decode("utf-8", "surrogateescape"), r"caf\udce9"),
        ("[bold]not markup[/bold]",) * 2,
    ],
    ids=["escapes", "line breaks", "letters", "bytes", "markup"],
)
def test_what_a_terminal_would_obey_is_spelled_out(text: str, shown: str) -> None:
    assert console.printable(text) == shown


SAY: dict[str, Callable[[str], object]] = {
    "info": console.info,
    "warn": console.warn,
    "error": console.error,
    "hint": console.hint,
    "bug": console.bug,
    "result": lambda text: console.result(text, {}),
    "cell": lambda text: console.table(["a", "b"], [("x", text)]),
    "column": lambda text: console.table(["a", text], [("x", "y")]),
    "title": lambda text: console.table(["a"], [("x",)], title=text),
}


@pytest.mark.parametrize("way", SAY)
def test_every_way_to_speak_spells_it_out(
    way: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(console.output, "format", console.Format.human)
    SAY[way](f"{EVIL}[red]x")
    said = "".join(capsys.readouterr())
    assert not unprintable(said)
    assert r"\u001b]0;" in said
    assert "[red]" in said


FORGED = "odd\nhint: rm -rf data\r\nerror: x\u2028warning: y"


@pytest.mark.parametrize("way", [way for way in SAY if way != "bug"])
def test_no_value_begins_a_line_of_its_own(
    way: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(console.output, "format", console.Format.human)
    SAY[way](FORGED)
    said = "".join(capsys.readouterr())
    assert not [line for line in said.splitlines() if line.startswith(("hint: rm", "error: x", "warning: y"))]
    assert r"odd\nhint: rm -rf data\nerror: x\u2028warning: y" in said


def test_lines_of_our_own_and_an_answer_keep_their_breaks(capsys: pytest.CaptureFixture[str]) -> None:
    console.info("", "one", "two")
    console.result("a poem\nof two lines", {}, identifier="a poem\nof two lines")
    said = capsys.readouterr()
    assert (said.out, said.err) == ("a poem\nof two lines\n", "\none\ntwo\n")


def test_the_bars_text_is_neither_escape_nor_markup() -> None:
    with console.progress(EVIL, 1) as bar:
        own = [column for column in bar.columns if type(column) is TextColumn]
        described = own[0].render(bar.tasks[0])
    assert described.plain == SPELLED
    assert not any(column.markup for column in own)


def test_a_pipe_gets_no_bar_where_colours_are_forced(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    with console.progress("counting", 1) as bar:
        bar.update(bar.task_ids[0], advance=1)
    assert not "".join(capsys.readouterr())


@pytest.mark.parametrize("form", [console.Format.json, console.Format.quiet])
def test_formats_for_programs_hold_no_escape_and_json_keeps_its_value(
    form: console.Format, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(console.output, "format", form)
    console.result("x", {"answer": EVIL}, identifier=EVIL)
    said = capsys.readouterr().out
    assert not unprintable(said)
    if form is console.Format.json:
        assert json.loads(said) == {"answer": EVIL}


def test_nothing_else_writes_to_the_terminal() -> None:
    """`print` is ruff's to refuse. The demo's reader and the child of a trial write JSON to their parents."""
    found = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr in ("write", "echo", "secho", "stdout", "stderr")
        and ast.unparse(node) in ("sys.stdout", "sys.stderr", "typer.echo", "typer.secho", "click.echo")
    }  # fmt: skip
    assert found == {"console.py", "cli/streams.py", "demo/reader.py", "model/adapters/trial_child.py"}


@pytest.fixture
def hostile(run_dir: Path, dataset_dir: Path, tmp_path: Path) -> dict[str, Path]:
    """Artefacts whose names and contents hold escapes wherever a file may hold text."""
    row: dict[str, Any] = {"prompt": f"q {EVIL}", "chosen": f"good {EVIL}", "rejected": "bad", NAME: 1}
    raw, odd = tmp_path / f"{NAME}.jsonl", tmp_path / f"odd-{NAME}.jsonl"
    raw.write_text("".join(json.dumps({**row, "prompt": f"{i} {EVIL}"}) + "\n" for i in range(20)))
    odd.write_text(json.dumps({NAME: 1, f"{NAME}2": 2}) + "\n")
    run, data = tmp_path / f"run-{NAME}", tmp_path / f"data-{NAME}"
    shutil.copytree(run_dir, run)
    shutil.copytree(dataset_dir, data)
    _spoil(run / "run.json", "base", "name")
    _spoil(run / "adapter_config.json", "base_model_name_or_path")
    _spoil(data / "prepare.json", "name")
    return {"RAW": raw, "ODD": odd, "RUN": run, "DATA": data, "OUT": tmp_path / f"out-{NAME}", "PLAIN": dataset_dir}


def _spoil(path: Path, *keys: str) -> None:
    whole = value = json.loads(path.read_text())
    for key in keys[:-1]:
        value = value[key]
    value[keys[-1]] = f"someone/{EVIL}"
    path.write_text(json.dumps(whole))


COMMANDS = [
    "prepare RAW -o OUT",
    "prepare RAW -o OUT --explain 1",
    "prepare ODD -o OUT",
    "train --model-name-or-path RUN --dataset DATA -o OUT --dry-run",
    "evaluate RUN",
    "evaluate OUT",
    "push RUN alice/evil --version 1.0.0 --dry-run",
    "push DATA alice/evil --version 1.0.0 --dry-run",
    "push OUT alice/evil --version 1.0.0",
    "diff DATA PLAIN",
    "diff RUN RUN",
    "inspect RUN",
    "inspect DATA",
    "inspect RAW",
    "merge RUN -o OUT",
    "load OUT",
    "verify alice/OUT@v1.0.0",
    "versions alice/OUT",
    "doctor --no-hub",
]
NOTHING_HOSTILE = {"push RUN alice/evil --version 1.0.0 --dry-run", "doctor --no-hub"}  # nothing of the run is shown


@pytest.mark.parametrize("form", ["human", "json"])
@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_passes_on_an_escape(
    command: str,
    form: str,
    hostile: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(console.output, "format", console.Format.human)
    words = [str(hostile.get(word, word)) for word in command.replace("alice/OUT", f"alice/{NAME}").split()]
    if form == "json":
        words.append("--json")
    monkeypatch.setattr(sys, "argv", ["hubdpo", *words])
    with pytest.raises(SystemExit):
        main()
    said = "".join(capsys.readouterr())
    assert said
    assert not unprintable(said), said
    assert form == "json" or r"\u001b" in said or command in NOTHING_HOSTILE


def test_the_client_tells_nothing_of_its_retries_on_the_command_line() -> None:
    import huggingface_hub

    assert huggingface_hub.utils.logging.get_verbosity() == logging.ERROR


@pytest.mark.parametrize(("number", "words"), [(0, "0 pairs"), (1, "1 pair"), (2000, "2,000 pairs")])
def test_a_noun_follows_its_number(number: int, words: str) -> None:
    assert console.counted(number, "pair") == words


def test_a_row_of_a_table_in_a_log_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    console.table(["held out", "before", "after"], [["accuracy", "x" * 50, "y" * 50]])
    assert len(capsys.readouterr().err.splitlines()) == 2
