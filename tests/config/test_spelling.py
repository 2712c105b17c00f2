"""Messages name an option as the user gave it: a flag, an argument of a call, or a key of a file."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

import hubdpo
from hubdpo import console
from hubdpo.cli.app import app
from hubdpo.config import PrepareConfig, PushConfig, TrainConfig
from hubdpo.config.base import Config
from hubdpo.config.spelling import as_key, as_keyword, respelled
from hubdpo.errors import ConfigError

FIELDS = TrainConfig.model_fields | PushConfig.model_fields | PrepareConfig.model_fields


@pytest.mark.parametrize(
    ("text", "spelled"),
    [
        ("option `--max-length` is needed", "option `max_length=` is needed"),
        ("--max-length counts tokens, so it needs --model", "`max_length=` counts tokens, so it needs `model=`"),
        ("--over-length truncate needs a number", '`over_length="truncate"` needs a number'),
        ("--redact needs --scan secrets", '`redact=` needs `scan="secrets"`'),
        ("--checkpoint-layers 40 is more than 24", "`checkpoint_layers=40` is more than 24"),
        ("more than `--max-reject 0.5`: a, b", "more than `max_reject=0.5`: a, b"),
        ("`--no-load-in-4bit` is given", "`load_in_4bit=False` is given"),
        ("`--check`, `--local-dir` and --help", "`check=`, `--local-dir` and --help"),
    ],
)
def test_a_message_from_python_names_arguments(text: str, spelled: str) -> None:
    assert respelled(text, FIELDS, as_keyword) == spelled


@pytest.mark.parametrize(
    ("hint", "spelled"),
    [
        ("add `--version VALUE`", "add `version=VALUE`"),
        ("did you mean `--loss-type sigmoid`?", 'did you mean `loss_type="sigmoid"`?'),
        ("--extend --max-steps 40", "extend=True, max_steps=40"),
        ("leave `--no-load-in-4bit` out", "leave `load_in_4bit=False` out"),
        ("--lr-scheduler-kwargs '{\"min_lr\": 5e-07}'", "lr_scheduler_kwargs={'min_lr': 5e-07}"),
        ("--map prompt=q,chosen=a, or --converter columns", 'map="prompt=q,chosen=a", or converter="columns"'),
        ("--map 'prompt=\"q, r\"'", "map='prompt=\"q, r\"'"),
        ("--answers a --answers 'b c' --vote v", 'answers=["a", "b c"], vote="v"'),
        ("--device cpu, or hubdpo train --device cuda", 'device="cpu", or hubdpo train --device cuda'),
        ("hubdpo prepare a -o b, then `--dataset b`", 'hubdpo prepare a -o b, then `dataset="b"`'),
        ("raise `--max-length`, or correct the rows", "raise `max_length=`, or correct the rows"),
    ],
)
def test_a_hint_from_python_can_be_pasted_into_the_call(hint: str, spelled: str) -> None:
    assert respelled(hint, FIELDS, as_keyword, is_hint=True) == spelled


def test_a_hint_for_a_file_can_be_pasted_into_it() -> None:
    hint = "--loss-type sigmoid, or `--no-private`"
    assert respelled(hint, FIELDS, as_key, is_hint=True) == "loss_type: sigmoid, or `private: false`"
    hint = "--answers a --answers 'b c' --vote v"
    assert respelled(hint, FIELDS, as_key, is_hint=True) == 'answers: ["a", "b c"], vote: v'


@pytest.mark.parametrize(
    ("config", "text", "message", "hint"),
    [
        (TrainConfig, "loss-type: sigmod", "option `loss-type` in `{file}` is not valid", "`loss-type: sigmoid`"),
        (
            PrepareConfig,
            "max_length: 64",
            "`max_length` counts tokens, so it needs --model",
            "--model Qwen/Qwen2-7B-Instruct",
        ),
        (PushConfig, "commit_message: hf_" + "a" * 34, "option `commit_message` in `{file}` holds a", "environment"),
    ],
)
def test_an_option_of_a_file_is_named_as_there(
    tmp_path: Path, config: type[Config], text: str, message: str, hint: str
) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(text)
    needed = {
        name: "0.1.0" if name == "version" else "a/b"
        for name, f in config.model_fields.items()
        if f.is_required() or config.cli(name).needed_unless
    }
    with pytest.raises(ConfigError) as caught:
        config.build(needed, file=file)
    assert caught.value.message.startswith(message.format(file=file))
    assert hint in (caught.value.hint or "")


@pytest.mark.usefixtures("from_python")
def test_warnings_and_hints_of_a_call_name_its_arguments(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = {"prompt": "p", "chosen": "good", "rejected": "bad"}
    hubdpo.prepare([row] * 3, tmp_path / "data", test_size=0)
    assert 'hint: repeats teach nothing new; `dedupe="none"` keeps them' in capsys.readouterr().err


@pytest.mark.usefixtures("from_python")
def test_what_a_call_tells_names_its_arguments(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    splits = {
        split: [{"prompt": f"{split} {n}", "chosen": "good", "rejected": "bad"} for n in range(3)]
        for split in ("train", "test")
    }
    hubdpo.prepare(splits, tmp_path / "data")
    assert '; `split="none"` draws a new split' in capsys.readouterr().err


def test_text_of_the_data_is_shown_as_it_is(
    tmp_path: Path, from_python: None, capsys: pytest.CaptureFixture[str]
) -> None:
    row = {"prompt": "what is --seed 3?", "chosen": "good", "rejected": "bad"}
    assert hubdpo.prepare([row], tmp_path / "data", explain=1) is None
    assert "what is --seed 3?" in capsys.readouterr().err


@pytest.mark.parametrize("as_config", [True, False])
def test_an_error_of_a_call_names_its_arguments(tmp_path: Path, from_python: None, as_config: bool) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "notes.txt").write_text("mine")
    options = {"source": str(tmp_path), "output_dir": str(tmp_path / "data")}
    with pytest.raises(ConfigError) as caught:
        hubdpo.prepare(config=PrepareConfig.build(options)) if as_config else hubdpo.prepare(**options)
    assert caught.value.hint == "give another `output_dir=`"
    assert str(caught.value) == caught.value.message


def test_the_command_line_names_flags(tmp_path: Path, from_python: None) -> None:
    done = CliRunner().invoke(app, ["push", str(tmp_path), "a/b"])
    assert "option `--version` is needed" in done.stderr
    assert not console.output.as_typed
