"""A command line that Typer refuses gets one line of error, and itself put right as the hint."""

from __future__ import annotations

import random
import shlex
import sys

import pytest

from hubdpo.cli.app import commands, main
from hubdpo.cli.mistakes import Line
from hubdpo.cli.retyped import put_right
from hubdpo.config import TrainConfig
from hubdpo.config.trainers.trl import TRL
from hubdpo.errors import ConfigError

BATCH, RATE = "--per-device-train-batch-size", "--learning-rate"
LINES = [
    # what is typed, the error, the hint
    ("tran -o 'my run'", "unknown command: `tran`", "train -o 'my run'"),
    ("eval run", "unknown command: `eval`", "evaluate run"),
    ("upload run me/x", "unknown command: `upload`", "push run me/x"),
    ("zzz", "unknown command: `zzz`", "--help"),
    ("push d a/x -v 1.0.0", "unknown option: `-v`", "push d a/x --version 1.0.0"),
    ("--verison", "unknown option: `--verison`", "--version"),
    ("train --model m", "unknown option: `--model`", "train --model-name-or-path m"),
    ("train --epochs=3", "unknown option: `--epochs`", "train --num-train-epochs=3"),
    ("train --lr 1e-5 --batch_size 2", "unknown options: `--lr`, `--batch-size`", f"train {RATE} 1e-5 {BATCH} 2"),
    ("train --lr 1e-5 --nonsense", "unknown options: `--lr`, `--nonsense`", "train --learning-rate 1e-5"),
    ("train --nonsense -3 x --lr 1e-5", "unknown options: `--nonsense`, `--lr`", "train --learning-rate 1e-5"),
    ("load me/x hi --nonsense 3", "unknown option: `--nonsense`", "load --help"),
    (
        "train --use_peft --bf16 true --precompute_ref_log_probs --eval_strategy=steps --lr 1e-5",
        "unknown options: `--use-peft`, `--bf16`, `--precompute-ref-log-probs`, `--eval-strategy`, `--lr`; "
        "`--use-peft` of TRL has no effect here; `--eval-strategy` of TRL has no effect here",
        "train --dtype bfloat16 --reference cached --learning-rate 1e-5",
    ),
    (
        "train --torch_dtype auto --lr 1e-5",
        "unknown options: `--torch-dtype`, `--lr`; `--torch-dtype` of TRL is the default here",
        "train --learning-rate 1e-5",
    ),
    (
        "train --deepspeed ds.json --lr 1e-5",
        "unknown options: `--deepspeed`, `--lr`; `--deepspeed` of TRL does not apply: it belongs into accelerate's",
        "train --learning-rate 1e-5",
    ),
    ("sweep --fp16 --beta 1 2", "unknown option: `--fp16`", "sweep --dtype bfloat16 --beta 1 --beta 2"),
    (
        "train --reference_free true",
        "unknown option: `--reference-free`; `--reference-free` of TRL does not apply: DPO's loss without a reference",
        "train --loss-type cpo --cpo-alpha 0",
    ),
    ("train --load_in_8bit", "unknown option: `--load-in-8bit`", "train --load-in-4bit"),
    (
        "train --beta 0.1 0.2 --lr 1e-5 2e-5",
        "unknown option: `--lr`; unexpected arguments: `0.2`, `2e-5`; `train` takes one value of `--beta` and "
        "`--learning-rate`, and `hubdpo sweep` trains a run for each",
        "sweep --beta 0.1 0.2 --learning-rate 1e-5 2e-5",
    ),
    ("train --beta 0.1 0.2 --loss-type sigmoid sft", "unexpected argument: `0.2`", "train --help"),
    ("train -o my run", "unexpected argument: `run`", "train --help"),
    # an option twice
    (
        "train --beta 0.1 -o r --beta=0.2",
        "`--beta` is given twice; `hubdpo sweep` trains a run for each value",
        "train -o r --beta=0.2",
    ),
    ("prepare x -o a -q --output_dir b", "`--output-dir` is given twice", "prepare x -q --output-dir b"),
    ("prepare -oa x -o b", "`--output-dir` is given twice", "prepare x -o b"),
    ("push a b --private --no-private", "`--private` and `--no-private` exclude each other", "push a b --no-private"),
    ("prepare x -q --quiet", "`--quiet` is given twice", "prepare x --quiet"),
    ("prepare x --json -o d --quiet", "`--json` and `--quiet` exclude each other", "prepare x -o d --quiet"),
    ("view d --format json -q", "`--format` and `-q` exclude each other", "view d -q"),
    ("sweep --beta 1 2 --config a --config b", "`--config` is given twice", "sweep --beta 1 --beta 2 --config b"),
    ("train --no-shred-prefix", "unknown option: `--no-shred-prefix`", "train --no-shared-prefix"),
    ("train -output run", "unknown option: `-output`", "train --output-dir run"),
    ("push run --hub_model_id me/x --private", "unknown option: `--hub-model-id`", "push run me/x --private"),
    ("push --repo me/x --private run", "unknown option: `--repo`", "push run me/x --private"),
    ("push run --repo-id=me/x --version 1.0.0", "unknown option: `--repo-id`", "push run me/x --version 1.0.0"),
    ("load me/x --max-tokens 9", "unknown option: `--max-tokens`", "load me/x --max-new-tokens 9"),
    ("train --load-in-4bit true -o r", "`--load-in-4bit` takes no value", "train --load-in-4bit -o r"),
    ("train --load-in-4bit False -o r", "`--load-in-4bit` takes no value", "train --no-load-in-4bit -o r"),
    ("train --no-load-in-4bit=true", "`--no-load-in-4bit` takes no value", "train --no-load-in-4bit"),
    ("train --no-load-in-4bit=false", "`--no-load-in-4bit` takes no value", "train --load-in-4bit"),
    ("prepare x -o", "`-o` needs a value", "prepare x -o DIR"),
    ("train --beta", "`--beta` needs a value", "train --beta NUMBER"),
    ("push run me/x 1.0.0", "unexpected argument: `1.0.0`", "push run me/x --version 1.0.0"),
    ("push run me/x v1.0.0", "unexpected argument: `v1.0.0`", "push run me/x --version 1.0.0"),
    ("load me/x What is two", "unexpected arguments: `is`, `two`", "load me/x 'What is two'"),
    ("versions me/x me/y", "unexpected argument: `me/y`", "versions --help"),
    ("train data --model-name-or-path m", "unexpected argument: `data`", "train --dataset data --model-name-or-path m"),
    ("train m --dataset d", "unexpected argument: `m`", "train --model-name-or-path m --dataset d"),
    ("train data", "unexpected argument: `data`", "train --help"),
    ("train m d -o r", "unexpected arguments: `m`, `d`", "train --model-name-or-path m --dataset d -o r"),
    ("train a.yaml -o r", "unexpected argument: `a.yaml`", "train --config a.yaml -o r"),
    ("train m --config a.yaml b.yaml", "unexpected arguments: `m`, `b.yaml`", "train --help"),
    ("demo extra --output-dir d", "unexpected argument: `extra`", "demo --output-dir d"),
    ("verify", "`USER/NAME@vX.Y.Z` is needed", "verify USER/NAME@vX.Y.Z"),
    ("diff a", "`USER/NAME[@vX.Y.Z]|DIR` is needed", "diff a USER/NAME"),
    ("view", "`DIR|USER/NAME[@REVISION]` is needed", "view DIR"),
    ("serve-hub h --port y", "option `--port` is not valid: 'y' is not a whole number", "serve-hub h --port 0"),
    ("serve-hub h --port=y", "option `--port` is not valid: 'y' is not a whole number", "serve-hub h --port 0"),
    ("w" * 400, "unknown command: `www", "--help"),
    (f"train {'w' * 400}", "unexpected argument: `www", "train --help"),
]  # fmt: skip


def answered(words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the lines of stderr of a command line that ends with exit code 2 and no output."""
    monkeypatch.setattr(sys, "argv", ["hubdpo", *words])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    written = capsys.readouterr()
    assert written.out == ""
    return written.err.splitlines()


@pytest.mark.parametrize(("typed", "error", "hint"), LINES, ids=[line[0] for line in LINES])
def test_a_refused_line_is_named_and_put_right(
    typed: str, error: str, hint: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = answered(shlex.split(typed), capsys, monkeypatch)
    assert first.startswith(f"error: {error}")
    assert second == f"hint: hubdpo {hint}"


@pytest.mark.parametrize("hint", [hint for _, _, hint in LINES if "--help" not in hint and hint != "--version"])
def test_a_line_that_was_put_right_is_taken(hint: str) -> None:
    name, *words = shlex.split(hint)
    commands()[name].make_context(name, words)


def test_numbers_that_are_none_are_told_together(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = shlex.split("train --model-name-or-path m --dataset me/d -o r --beta x --lora-r 1.5")
    first, second = answered(words, capsys, monkeypatch)
    assert first == (
        "error: option `--beta` is not valid: 'x' is not a number; "
        "option `--lora-r` is not valid: '1.5' is not a whole number"
    )
    assert second == "hint: hubdpo train --model-name-or-path m --dataset me/d -o r --beta 0.1 --lora-r 2"


def test_no_words_show_the_help(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["hubdpo"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 0
    assert "serve-hub" in capsys.readouterr().out


def test_any_refused_words_get_an_error(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    draw = random.Random(7)
    words = [
        "--",
        "-",
        "-o",
        "-ox",
        "--dataset",
        "--dataset=",
        "--no-resume",
        "--resume=",
        "true",
        "-1",
        "",
        "--=",
        "é",
    ]
    for _ in range(300):
        name = draw.choice(["train", "push", "load", "view", "sweep"])
        line = [name, "--unheard-of", *draw.choices(words, k=draw.randrange(6))]
        first, second = answered(line, capsys, monkeypatch)[:2]
        assert first.startswith("error: "), line
        assert second.startswith("hint: hubdpo "), line


@pytest.mark.parametrize("value", ["x", "true", "1", "[1]", "{a: 1}", "{a", "[[", "null", ""])
def test_no_value_of_an_option_of_trl_is_a_bug(value: str) -> None:
    for key in {*TRL.marks, *TRL.renamed, *TRL.converted, *TRL.says, *TRL.refused, *TRL.free}:
        line, flag = Line(commands()["train"]), f"--{key.replace('_', '-')}"
        line.read([f"{flag}={value}"])
        assert flag in line.options or line.faults[0].startswith("unknown option: "), key


def test_of_two_ways_one_may_be_a_whole_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["hubdpo", *shlex.split("train --dataset d -o one --resume --beta 0.1 -q")])
    own = "hubdpo train --dataset 'a b' --resume"
    problem = ConfigError("", hint=f"give another `--output-dir`; leave `--resume` out, or {own}")
    assert put_right(problem, "train", TrainConfig)[1] == [
        "hubdpo train --dataset d --output-dir one-2 --beta 0.1 -q",
        own,
    ]
