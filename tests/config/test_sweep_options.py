"""Which options a sweep varies, how their values are written, and the runs that they make."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest

from hubdpo.cli.several import repeated
from hubdpo.config import SweepConfig, TrainConfig
from hubdpo.config.roles import OF_A_STEP, SHARED, Role
from hubdpo.config.sweep import SWEPT, command, name_of
from hubdpo.errors import ConfigError

PLACES = {"model_name_or_path": "m", "dataset": "d", "output_dir": "out"}


def built(**options: Any) -> SweepConfig:
    return SweepConfig.build({**PLACES, **options})


def names(**options: Any) -> list[str]:
    return [point.name for point in built(**options).points]


def test_every_option_of_the_weights_is_decided_on() -> None:
    """A new option may be swept only if it changes nothing that the runs share: add it here, or to SHARED."""
    assert {*SWEPT} - {*OF_A_STEP} == {
        "loss_type", "loss_weights", "beta", "label_smoothing", "simpo_gamma", "cpo_alpha", "use_weighting",
        "f_divergence_type", "f_alpha_divergence_coef", "discopop_tau", "learning_rate", "lr_scheduler_type",
        "lr_scheduler_kwargs", "warmup_ratio", "warmup_steps", "optim", "adam_beta1", "adam_beta2", "adam_epsilon",
        "weight_decay", "max_grad_norm", "num_train_epochs", "max_steps", "lora_r", "lora_alpha", "lora_dropout",
        "lora_target_modules", "use_rslora", "use_dora", "layers_to_transform", "init_lora_weights", "group_prompts",
        "load_best_model_at_end", "metric_for_best_model", "early_stopping_patience", "early_stopping_threshold",
        "seed",
    }  # fmt: skip
    assert {*SHARED} <= {*TrainConfig.model_fields}
    assert {*TrainConfig.names(Role.WEIGHTS)} <= {*SWEPT, *SHARED}


def test_the_runs_are_all_combinations() -> None:
    assert names(beta=[0.05, 0.1], learning_rate=["1e-6", 5e-6], lora_r=8) == [
        "beta-0.05_learning-rate-1e-06", "beta-0.05_learning-rate-5e-06", "beta-0.1_learning-rate-1e-06",
        "beta-0.1_learning-rate-5e-06",
    ]  # fmt: skip


def test_a_run_has_the_options_of_train_and_its_own_folder() -> None:
    first, second = built(beta=[0.05, 0.1], run_name="night", lora_r="8").points
    config = TrainConfig.build(
        {**PLACES, "output_dir": "out/beta-0.1", "beta": 0.1, "lora_r": 8, "reference": "cached",
         "run_name": "night-beta-0.1"}
    )  # fmt: skip
    assert second.config == config
    assert (first.values, second.values) == ({"beta": 0.05}, {"beta": 0.1})


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"loss_type": ["sigmoid,sft", "ipo"]}, [["sigmoid", "sft"], ["ipo"]]),
        ({"loss_type": [["sigmoid", "sft"], "ipo"]}, [["sigmoid", "sft"], ["ipo"]]),
        ({"lora_target_modules": ["q_proj,v_proj", "all-linear"]}, [["q_proj", "v_proj"], ["all-linear"]]),
        ({"beta": "0.1,0.2"}, [0.1, 0.2]),
        ({"learning_rate": ["1e-5, 2e-5"]}, [1e-5, 2e-5]),
        ({"layers_to_transform": ["0,1", "1"]}, [[0, 1], [1]]),
        ({"use_dora": [True, False]}, [True, False]),
        ({"early_stopping_patience": [None, 3]}, [None, 3]),
        ({"lr_scheduler_kwargs": ['{"num_cycles": 1}', {"num_cycles": 2}]}, [{"num_cycles": 1}, {"num_cycles": 2}]),
    ],
)
def test_a_value_may_be_a_list_a_switch_or_none(options: dict[str, Any], expected: list[Any]) -> None:
    (option,) = options
    points = built(**options).points
    assert [getattr(point.config, option) for point in points] == expected
    assert len({point.name for point in points}) == 2


def test_a_loss_without_a_reference_has_none() -> None:
    assert [point.config.reference for point in built(loss_type=["sigmoid", "simpo"]).points] == ["cached", "online"]


@pytest.mark.parametrize(
    ("options", "told", "hint"),
    [
        ({"beta": [0.1, -1]}, "greater than 0: -1; this is the run `beta--1`", "--beta 0.1"),
        ({"beta": [0.1, 0.2], "lora_r": 0}, "option `--lora-r` is not valid: it must be greater than", "--lora-r"),
        ({"loss_type": ["sigmoid", "simpo"], "simpo_gamma": 1}, "this is the run `loss-type-sigmoid`", "--loss-type"),
        ({"max_length": [64, 128]}, "`--max-length` has one value in a sweep, whose runs share the tokenised", "64"),
        ({"ld_alpha": [0.5, 1]}, "share the reference log-probs", "--ld-alpha 0.5"),
        ({"load_in_4bit": [True, False]}, "share the base in memory", "--load-in-4bit"),
        ({"dataset": ["a", "b"]}, "share the tokenised pairs", "--dataset a"),
        ({"save_steps": [5, 10]}, "`--save-steps` has one value in a sweep, as it does not change", "--save-steps 5"),
        ({"beta": "0.1,x"}, "`hubdpo train` trains a single run", "--beta"),
        ({"beta": 0.1}, "`hubdpo train` trains a single run", "--beta 0.05 0.1"),
        ({"beta": []}, "has no value", "leave `--beta` out"),
        ({"beta": [0.1, "0.10"]}, "two runs are the same, `beta-0.1`", "once"),
        ({"beta": [0.1, 0.2], "reference": "online"}, "computed once", "leave `--reference` out"),
        ({"betas": [0.1, 0.2]}, "unknown option: `betas`", "did you mean `beta`?"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_run(options: dict[str, Any], told: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        built(**options)
    assert told in caught.value.message
    assert hint in str(caught.value.hint)


def test_a_shared_option_names_no_run() -> None:
    with pytest.raises(ConfigError) as caught:
        built(beta=[0.1, 0.2], lora_r=0)
    assert "this is the run" not in caught.value.message


def test_a_file_has_lists(tmp_path: Path) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_text("dataset: d\nmodel_name_or_path: m\nbeta: [0.05, 0.1]\nlearning_rate: 1e-6\n")
    config = SweepConfig.build({"output_dir": "out", "learning_rate": ["1e-6", "5e-6"]}, file=file)
    assert len(config.points) == 4
    file.write_text("dataset: d\nmodel_name_or_path: m\nbeta: [0.05, zero]\n")
    with pytest.raises(ConfigError, match=r"option `beta` in `.*sweep.yaml` is not valid.*run `beta-zero`"):
        SweepConfig.build({"output_dir": "out"}, file=file)


def test_a_name_fits_every_disk() -> None:
    assert name_of({"lora_target_modules": ["a/b", "c d"]}) == "lora-target-modules-a-b+c-d"
    long = [name_of({"lora_target_modules": [f"layer_{i}" for i in range(40)] + [last]}) for last in ("x", "y")]
    assert max(map(len, long)) < 120
    assert long[0] != long[1]


def test_words_after_a_value_are_further_values() -> None:
    words = shlex.split("--beta 0.05 0.1 -o out --max-steps=5 -1 --resume --loss-type -x more")
    assert [*repeated(words, {"--beta", "-o", "--max-steps", "--loss-type"})] == shlex.split(
        "--beta 0.05 --beta 0.1 -o out --max-steps=5 --max-steps -1 --resume --loss-type -x --loss-type more"
    )
    assert [*repeated(["--resume", "stray", "--beta"], {"--beta"})] == ["--resume", "stray", "--beta"]


def test_the_command_makes_the_same_sweep() -> None:
    options = {"beta": [0.05, 0.1], "loss_type": [["sigmoid", "sft"], ["ipo"]], "lora_r": 8, "run_name": "a b"}
    words = shlex.split(command(built(**options)))
    assert words[:2] == ["hubdpo", "sweep"]
    assert words[-1] == "--resume"
    parsed: dict[str, Any] = {}
    rest = iter(repeated(words[2:-1], {word for word in words if word.startswith("--")}))
    for flag, value in zip(rest, rest, strict=True):
        parsed.setdefault(flag[2:].replace("-", "_"), []).append(value)
    assert SweepConfig.build(parsed).points == built(**options).points
    assert command(built(use_dora=[True, False])) == "the same command with `--resume`"
