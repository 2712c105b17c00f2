"""Mistakes in the file of `--config`: each is told with its line or its option, and with what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from hubdpo.config import TrainConfig
from hubdpo.errors import ConfigError

TRAIN = {"model_name_or_path": "base", "dataset": "data", "output_dir": "run"}


@pytest.mark.parametrize(
    ("name", "text", "message", "hint"),
    [
        ("a.yaml", "beta: 0.1\n seed: 1\n", "a.yaml, line 2: it begins with white space", "sed -n 2p"),
        ("a.yaml", "beta: 0.1\nseed: [1\n", "a.yaml, line 3: expected ',' or ']'", "sed -n 3p"),
        ("a.json", '{"beta": 0.1', "a.json, line 1: expected ',' or '}'", "sed -n 1p"),
        ("rows.jsonl", '{"prompt": "a"}\n{}\n', "rows.jsonl` is named like raw data", "hubdpo prepare"),
        ("rows.csv", "a,b\n", "rows.csv` is named like raw data", "hubdpo prepare"),
        ("a.yaml", "beta:\n", "option `beta` in", "`beta: 0.1` is the default"),
        ("a.yaml", "use-dora: ~\n", "has no value", "`use-dora: true` or `use-dora: false`"),
        ("a.yaml", "eval_dataset:\n", "has no value", "leave `eval_dataset` out"),
        ("a.yaml", "run_name: ${RUN}\n", "option `run_name` in", "write its value, or remove the line"),
        ("a.yaml", "lora: {r: 8, lora_alpha: 4}\n", "`lora` in", "write `lora_r: 8`, `lora_alpha: 4` in its place"),
        ("a.yaml", "lora: {r: 8, x: 4}\n", "unknown option in", "did you mean `lora_r`?"),
        (
            "a.yaml",
            "dataset: [a, b c]\n",
            "['a', 'b c'] is not a text",
            "hubdpo prepare a 'b c' -o joined, then `dataset: joined`",
        ),
        ("a.yaml", "learning_rate: [1e-6, 2e-6]\n", "is not a number", "did you mean `sweep`?"),
    ],
)
def test_a_mistake_in_a_file_is_told_with_what_to_do(
    name: str, text: str, message: str, hint: str, tmp_path: Path
) -> None:
    file = tmp_path / name
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        TrainConfig.build({key: value for key, value in TRAIN.items() if f"{key}:" not in text}, file=file)
    assert message in caught.value.message
    assert str(caught.value.hint).startswith(hint)


@pytest.mark.parametrize("text", ["max_prompt_length:\n", "warmup_steps: null\n", "dataset:\n"])
def test_an_option_that_may_be_none_may_be_empty(text: str, tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(text)
    assert TrainConfig.build(TRAIN, file=file) == TrainConfig.build(TRAIN)


def test_a_folder_is_no_file_of_options(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with pytest.raises(ConfigError, match="is a folder") as caught:
        TrainConfig.build(TRAIN, file=tmp_path / "data")
    assert caught.value.hint == "leave `--config` out"


def test_a_file_without_options_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("# beta: 0.1\n")
    TrainConfig.build(TRAIN, file=file)
    assert "a.yaml` has no options" in capsys.readouterr().err
