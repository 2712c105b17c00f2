"""Runs without a reference, and with margins and weights from columns that `prepare` kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from killed import killed_copy
from test_training_ready import assert_like_losses, train_in_two_processes

from hubdpo import prepare, train
from hubdpo.config import TrainConfig
from hubdpo.data.encoded.rows import TokenRows
from hubdpo.data.load import Split
from hubdpo.data.tokens.tokenize import PairTokenizer
from hubdpo.errors import ConfigError, DataError
from hubdpo.model.tokenizer.load import read_tokenizer
from hubdpo.training.pair_values import with_values
from hubdpo.training.schedule import Epoch, print_plan

ADAPTER = "adapter_model.safetensors"
COLUMNS = ["score_chosen", "score_rejected"]


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of 24 pairs with scores; two of them lack one, which `prepare` does not mind."""
    rows = [
        {
            "prompt": f"What is {i} plus one?", "chosen": f"It is {i + 1}, gladly.", "rejected": f"No idea about {i}.",
            "score_chosen": 5 + i % 4, "score_rejected": None if i in (2, 3) else i % 3, "trust": 1 + i % 2,
        }
        for i in range(24)
    ]  # fmt: skip
    folder = tmp_path_factory.mktemp("scored") / "data"
    prepare(rows, folder, keep=[*COLUMNS, "trust"], test_size=0.25)
    return folder


def options(base: Path, data: Path, run: Path, **more: Any) -> dict[str, Any]:
    return {
        "model_name_or_path": str(base), "dataset": str(data), "output_dir": run, "max_steps": 4, "max_length": 128,
        "learning_rate": 1e-3, "per_device_train_batch_size": 2, "gradient_accumulation_steps": 1, "save_steps": 2,
        "eval_steps": 2, **more,
    }  # fmt: skip


def config_with(**more: Any) -> TrainConfig:
    return TrainConfig.build({"model_name_or_path": "x/y", "dataset": "d", "output_dir": "o", **more})


def lines(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def valued(folder: Path, config: TrainConfig, *values: dict[str, str | None]) -> list[dict[str, float]]:
    """Return margin and weight of each pair of a split that has these columns; its first row was dropped."""
    pq.write_table(pa.Table.from_pylist([dict.fromkeys(values[0], "7"), *values]), folder / "train.parquet")
    split = Split("train", (folder / "train.parquet",), ("",), len(values) + 1)
    rows = TokenRows.of([{"prompt_ids": [1], "chosen_ids": [2], "rejected_ids": [3]}] * (len(values) + 1))[1:]
    found = with_values(rows, split, config, "train")
    return [{name: row[name] for name in ("margin", "weight") if name in row} for row in found]


def test_margins_are_differences_of_scores_and_weights_have_the_mean_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = config_with(margin_columns=["a", "b"], margin_scale=0.5, weight_column="w")
    rows = ({"a": "7", "b": "4.5", "w": "1"}, {"a": "1", "b": "3", "w": "3"}, {"a": "5", "b": None, "w": "soon"})
    assert valued(tmp_path, config, *rows) == [
        {"margin": 1.25, "weight": 0.5}, {"margin": -1.0, "weight": 1.5}, {"margin": 0.0, "weight": 1.0},
    ]  # fmt: skip
    said = " ".join(capsys.readouterr().err.split())
    for words in ("1 pair with no margin: 0", "1 pair with a margin below 0", "1 pair with no weight: the mean"):
        assert words in said


def test_one_column_holds_the_margin_itself(tmp_path: Path) -> None:
    config = config_with(margin_columns="gap")
    assert valued(tmp_path, config, {"gap": "2"}, {"gap": "0"}) == [{"margin": 2.0}, {"margin": 0.0}]


@pytest.mark.parametrize(
    ("weights", "words"),
    [(["1", "-2"], "the weight -2"), (["0", "0"], "all weights in `w` are 0"), (["high", None], "such as 'high'")],
)
def test_weights_that_weigh_nothing_are_refused(weights: list[str | None], words: str, tmp_path: Path) -> None:
    with pytest.raises((ConfigError, DataError), match=words):
        valued(tmp_path, config_with(weight_column="w"), *({"w": weight} for weight in weights))


def test_columns_that_the_dataset_lacks_are_named_with_the_command_that_keeps_them(
    tiny_base: Path, scored: Path, tmp_path: Path
) -> None:
    chosen = options(tiny_base, scored, tmp_path / "run", margin_columns=["score_chosen", "score"], dry_run=True)
    with pytest.raises(ConfigError, match="no column `score`; .* `score_chosen`, `score_rejected`, `trust`") as caught:
        train(**chosen)
    assert caught.value.hint == "hubdpo prepare SOURCE -o DIR --keep-scores --keep score"


@pytest.mark.parametrize(("options", "warns"), [({}, True), ({"beta": 2.0}, False), ({"loss_type": "cpo"}, False)])
def test_a_beta_that_is_low_for_means_over_tokens_is_warned_of(
    options: dict[str, Any], warns: bool, tiny_base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    encoder = PairTokenizer(read_tokenizer(tiny_base), max_length=64, prompt_budget=32)
    config = config_with(**{"loss_type": "simpo", **options})
    print_plan(config, encoder, "cpu", Epoch.of(config, 32), 2)
    assert ("beta 0.1 is low for simpo" in capsys.readouterr().err) is warns


@pytest.fixture(scope="module")
def shaped(tiny_base: Path, scored: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """The options of a run with ORPO, and with weights, by tokens; and its folder."""
    chosen = {"loss_type": "orpo", "weight_column": "trust", "beta": 0.3, "tokens_per_batch": 128}
    run = tmp_path_factory.mktemp("shaped") / "run"
    train(**options(tiny_base, scored, run, **chosen))
    return chosen, run


def test_a_run_that_is_resumed_ends_with_the_same_bits(
    tiny_base: Path, scored: Path, tmp_path: Path, shaped: tuple[dict[str, Any], Path]
) -> None:
    chosen, whole = shaped
    cut = killed_copy(whole, tmp_path / "run", after=2)
    (cut / ADAPTER).unlink()
    train(**options(tiny_base, scored, cut, **chosen), resume=True)
    assert (cut / ADAPTER).read_bytes() == (whole / ADAPTER).read_bytes()


def test_a_run_without_reference_logs_its_own_metrics_and_no_ln_2(shaped: tuple[dict[str, Any], Path]) -> None:
    first, *_, last = lines(shaped[1])
    assert {"nll_loss", "log_odds_ratio", "log_odds_chosen", "rewards/margins"} <= first.keys()
    assert first["loss"] > 1
    # beta times the mean log-prob of a token, whose level is that of the whole answer in `logps`
    assert 0 > first["rewards/chosen"] > 0.3 * first["logps/chosen"]
    assert "train_runtime" in last


@pytest.mark.slow
def test_two_processes_give_the_losses_of_one(
    tiny_base: Path, scored: Path, tmp_path: Path, shaped: tuple[dict[str, Any], Path]
) -> None:
    chosen, alone = shaped
    both = {**chosen, "per_device_train_batch_size": 1}
    train_in_two_processes(**options(tiny_base, scored, tmp_path / "run", **both))
    assert_like_losses(tmp_path / "run", alone)
