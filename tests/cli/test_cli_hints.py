"""What a hint gives for a value that an option does not take, the option takes."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest

from hubdpo import console
from hubdpo.cli.app import commands
from hubdpo.cli.command import MODELS
from hubdpo.cli.retyped import put_right
from hubdpo.config.base import flag_of, item_type
from hubdpo.errors import ConfigError

COMMANDS = commands()
LINES = {
    "prepare": "s.jsonl -o out --model base",
    "train": "--model-name-or-path base --dataset data -o out",
    "sweep": "--model-name-or-path base --dataset data -o out --seed 1 2",
    "adopt": "a --base base -o out",
    "evaluate": "run --judge http://127.0.0.1:8000/v1 --judge-model judge",
    "merge": "one two --weights 0.5 --weights 0.5 -o out",
    "export": "run --gguf -o out",
    "push": "data me/x --version 1.0.0",
}
"""A line that each command takes."""
VALUES = (
    "", " ", "x", "true", "a b", "1,2", "-1", "-0.5", "0", "0.5", "1", "1.5", "3", "12", "500", "0.1%", "150%", "1e30",
    "9" * 30, "nan", "inf", "train", "test",
)  # fmt: skip
"""Below and above the bounds of some option, with a fraction, as a share, several, a word, or empty."""
CASES = [
    (command, name, [value] * times)
    for command in LINES
    for model in (MODELS[command],)
    for name, field in model.model_fields.items()
    if not (model.cli(name).file_only or model.cli(name).argument or model.is_switch(name))
    for value in VALUES
    for times in ((1, 2) if item_type(field.annotation) else (1,))
]


def refused(words: list[str], monkeypatch: pytest.MonkeyPatch) -> tuple[str, list[str]]:
    """Return the message and the hints of a line whose options the command refuses; nothing for one that it takes."""
    command, *rest = words
    monkeypatch.setattr(sys, "argv", ["hubdpo", *words])
    model = MODELS[command]
    given = COMMANDS[command].make_context(command, rest).params
    options = {name: given[name] for name in model.model_fields if given.get(name) not in (None, [], ())}
    with console.written_as(None, as_typed=True):
        try:
            model.build(options)
        except ConfigError as problem:
            return put_right(problem, command, model)
    return "", []


def line(command: str, name: str, values: list[str]) -> list[str]:
    words, flag = shlex.split(LINES[command]), flag_of(name)
    for own in (flag, MODELS[command].cli(name).short):
        while own in words:
            at = words.index(own)
            del words[at : at + 2]
    return [command, *words, *(word for value in values for word in (flag, value))]


@pytest.mark.parametrize("command", LINES)
def test_a_hint_gives_an_option_a_value_that_it_takes(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for words, flag in [(line(*case), flag_of(case[1])) for case in CASES if case[0] == command]:
        for hint in refused(words, monkeypatch)[1]:
            pasted = shlex.split(hint)
            if pasted[:1] != ["hubdpo"] or "--help" in pasted:
                continue
            assert pasted[1:] != words
            again = refused(pasted[1:], monkeypatch)[0]
            assert f"option `{flag}` is not valid" not in again, (words, hint)


@pytest.mark.parametrize("command", LINES)
def test_the_lines_are_taken(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert refused([command, *shlex.split(LINES[command])], monkeypatch) == ("", [])
