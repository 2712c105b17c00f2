"""Options: the same names everywhere, refused early, explained."""

from __future__ import annotations

from pathlib import Path

import pytest

from hubdpo.config import Config, EvaluateConfig, PrepareConfig, PushConfig, TrainConfig
from hubdpo.config.base import item_type
from hubdpo.config.name_values import read_pairs, write_pairs
from hubdpo.config.repo_id import is_repo_id
from hubdpo.errors import ConfigError

TRAIN = {"model_name_or_path": "a/b", "dataset": "data", "output_dir": "run"}


def test_dashes_and_underscores_are_the_same() -> None:
    assert TrainConfig.build({**TRAIN, "max-steps": 3}).max_steps == 3


def test_flags_win_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("beta: 0.5\nlearning-rate: 5e-6\n")
    config = TrainConfig.build({**TRAIN, "beta": 0.2}, file=file)
    assert (config.beta, config.learning_rate) == (0.2, 5e-6)


def test_an_unknown_key_names_the_file_and_the_nearest_option(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("learning_rte: 1e-5\n")
    with pytest.raises(ConfigError, match="run.yaml") as caught:
        TrainConfig.build(TRAIN, file=file)
    assert caught.value.hint == "did you mean `learning_rate`?"


@pytest.mark.parametrize(
    ("config", "given", "message", "hint"),
    [
        (
            PushConfig,
            {"folder": "run", "version": "1.0.0"},
            "`USER/NAME` is needed: repo to publish to",
            "hubdpo push run USER/NAME",
        ),
        (
            PushConfig,
            {"folder": "run"},
            "`USER/NAME` and `--version` are needed",
            "hubdpo push run USER/NAME --version",
        ),
        (EvaluateConfig, {}, "`RUN|DIR|USER/NAME[@REV]` is needed: a run folder", "hubdpo evaluate RUN"),
        (PrepareConfig, {"source": ["a b", "c"]}, "option `--output-dir` is needed", "add `--output-dir DIR`"),
        (PrepareConfig, {"output_dir": "out"}, "`SOURCE...` is needed: files, folders", "hubdpo prepare SOURCE..."),
        (
            TrainConfig,
            {"dataset": "data"},
            "options `--model-name-or-path` and `--output-dir` are needed",
            "add `--model-name-or-path BASE --output-dir DIR`",
        ),
    ],
)
def test_what_is_missing_is_named_as_it_is_typed(
    config: type[Config], given: dict[str, str], message: str, hint: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        config.build(given)
    assert caught.value.message.startswith(message)
    assert str(caught.value.hint).startswith(hint)


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("test-size: 0.1\ntest-size: 0.5\n", "`test-size` is given twice, the second time in line 2 of", "keep one"),
        ("test-size: 0.1\ntest_size: 0.5\n", "given twice: `test-size` and `test_size`", "keep one"),
        ("labels: {first: a, first: b}\n", "`first` is given twice", "keep one"),
        ("license: no\n", "`license` in", 'license: "no"'),
        ("language: yes\n", "`language` in", 'language: "yes"'),
        ("name: 2024\n", "`name` in", 'name: "2024"'),
    ],
)
def test_what_yaml_reads_in_its_own_way_is_refused(text: str, message: str, hint: str, tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=r"run\.yaml") as caught:
        PrepareConfig.build({"source": "a", "output_dir": "b"}, file=file)
    assert message in caught.value.message and hint in str(caught.value.hint)


def test_keys_of_a_merged_mapping_may_be_given_again(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("labels: {<<: {first: a, second: b}, first: c}\n")
    assert (
        PrepareConfig.build({"source": "a", "output_dir": "b"}, file=tmp_path / "run.yaml").labels == "first=c,second=b"
    )


@pytest.mark.parametrize(("number", "version"), [(1.0, "1.0.0"), (2, "2.0.0")])
def test_a_number_for_a_version_is_refused_with_the_version(number: float, version: str) -> None:
    with pytest.raises(ConfigError) as caught:
        PushConfig.build({"folder": "a", "repo": "b/c", "version": number})
    assert caught.value.hint == f"--version {version}"


@pytest.mark.parametrize("text", ["- a\n- b\n", "beta: [", "just words"])
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match="run.yaml"):
        TrainConfig.build(TRAIN, file=file)


@pytest.mark.parametrize(
    "options",
    [
        {"beta": 0},
        {"loss_type": ["sigmod"]},
        {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0]},
        {"max_length": 64, "max_prompt_length": 64},
        {"lora_dropout": 1.0},
    ],
)
def test_a_value_out_of_bounds_is_refused(options: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        TrainConfig.build({**TRAIN, **options})


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        ({"loss_type": ["sigmod"]}, "did you mean `--loss-type sigmoid`?"),
        ({"max_steps": 0}, "--max-steps -1"),
        ({"report_to": ["wandbb"]}, "did you mean `--report-to wandb`?"),
        ({"loss_type": ["exo_pair"]}, "--label-smoothing 1e-3"),
        ({"loss_type": ["sigmoid", "sft"], "loss_weights": [1]}, "--loss-weights 1 --loss-weights 1"),
        ({"loss_weights": [0]}, "--loss-weights 1"),
        ({"loss_type": ["sigmoid", "sft"], "loss_weights": [1, -1]}, "--loss-weights 1 --loss-weights 1"),
        ({"lora_target_modules": []}, "--lora-target-modules all-linear"),
        ({"save_total_limit": 1}, "`--save-total-limit 2` is the default"),
        ({"seed": 2**32}, "`--seed 42` is the default"),
        ({"tokens_per_batch": 100, "max_length": 200}, "--tokens-per-batch 200"),
        ({"max_prompt_length": 200, "max_length": 200}, "--max-prompt-length 100"),
        ({"checkpoint_layers": -1}, "--checkpoint-layers 0"),
        ({"checkpoint_layers": 1, "gradient_checkpointing": False}, "leave `--no-gradient-checkpointing` out"),
        ({"dequantize_once": True, "load_in_4bit": False}, "leave `--dequantize-once` out"),
        ({"tokens_per_batch": 2048, "loss_type": ["aot"]}, "leave `--tokens-per-batch` out"),
        ({"lora_target_modules": ["all-linear", "q_proj"]}, "--lora-target-modules all-linear"),
    ],
)
def test_a_value_that_no_library_takes_is_refused_with_what_to_type(options: dict[str, object], hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        TrainConfig.build({**TRAIN, **options})
    assert caught.value.hint == hint


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"loss_type": ["kto_pair"]}, "there is no `kto_pair`: KTO learns from single answers"),
        ({"loss_type": ["simpo"], "reference": "cached"}, "`simpo` uses no reference"),
        ({"loss_type": ["orpo", "sft"], "reference": "cached"}, "`orpo` uses no reference"),
        ({"loss_type": ["cpo"], "adapter": "a/b", "reference_adapter": "none"}, "--reference-adapter has no effect"),
        ({"simpo_gamma": 1.0}, "--simpo-gamma belongs to the loss `simpo`"),
        ({"discopop_tau": 0.1}, "--discopop-tau belongs to the loss `discopop`"),
        ({"f_alpha_divergence_coef": 0.1}, "belongs to the divergence `alpha_divergence`"),
        ({"loss_type": ["sigmoid", "cpo"], "ld_alpha": 0.5}, "--ld-alpha does not go with the loss `cpo`"),
        ({"loss_type": ["simpo"], "use_weighting": True}, "--use-weighting does not go with the loss `simpo`"),
        ({"loss_type": ["sigmoid", "sft"], "use_weighting": True}, "--use-weighting does not go with the loss `sft`"),
        ({"loss_type": ["aot"], "use_weighting": True}, "--use-weighting does not go with the loss `aot`"),
        ({"loss_type": ["nca_pair"], "f_divergence_type": "js_divergence"}, "does not go with the loss `nca_pair`"),
        ({"loss_type": ["orpo"], "margin_columns": ["a"]}, "--margin-columns does not go with the loss `orpo`"),
        ({"loss_type": ["ipo"], "weight_column": "a"}, "--weight-column does not go with the loss `ipo`"),
        ({"margin_columns": ["a", "b", "c"]}, "from one column or from two"),
        ({"margin_scale": 2.0}, "--margin-scale needs the columns"),
        ({"weight_column": "a", "ld_alpha": 0.5}, "--ld-alpha is TRL's"),
    ],
)
def test_what_does_not_fit_the_losses_is_refused_with_a_hint(options: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        TrainConfig.build({**TRAIN, **options})
    assert words in caught.value.message
    assert caught.value.hint


def test_a_cached_reference_serves_losses_without_one_beside_others() -> None:
    TrainConfig.build({**TRAIN, "loss_type": ["sigmoid", "simpo"], "reference": "cached"})


def test_a_value_that_is_refused_is_refused_with_its_file(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("lr_scheduler_type: cosin\n")
    with pytest.raises(ConfigError, match="`lr_scheduler_type` in `.*run.yaml`"):
        TrainConfig.build(TRAIN, file=file)


@pytest.mark.parametrize("given", ["all-linear", ["all-linear"], "All-Linear"])
def test_all_linear_is_spelled_as_peft_spells_it(given: object) -> None:
    assert TrainConfig.build({**TRAIN, "lora_target_modules": given}).lora_target_modules == ["all-linear"]


def test_a_missing_option_is_named() -> None:
    with pytest.raises(ConfigError, match="--dataset"):
        TrainConfig.build({"model_name_or_path": "a/b", "output_dir": "run"})


@pytest.mark.parametrize("source", [[{"prompt": "q"}], ["x.jsonl", {"prompt": "q"}], {"train": []}, b"x"])
def test_rows_are_no_source_of_a_config(source: object) -> None:
    with pytest.raises(ConfigError, match="is neither a path nor an address: (dict|bytes)") as caught:
        PrepareConfig.build({"source": source, "output_dir": "d"})
    assert "hubdpo.prepare(rows, output_dir)" in str(caught.value.hint)


def test_a_config_cannot_be_changed() -> None:
    config = PrepareConfig.build({"source": ["x"], "output_dir": "d"})
    with pytest.raises(ValueError, match="frozen"):
        config.seed = 1  # type: ignore[misc]


@pytest.mark.parametrize("version", ["1", "1.2", "1.2.x", "01.2.3", "v1.2.3.4", "1.2.3-rc1"])
def test_a_version_is_three_numbers(version: str) -> None:
    with pytest.raises(ConfigError, match="X.Y.Z"):
        PushConfig.build({"folder": "d", "repo": "a/b", "version": version})


@pytest.mark.parametrize("repo", ["name", "a/b/c", "../b", "a/b--c", "a/.b", "a/b.git", "/home/me", "a/b c"])
def test_what_is_not_user_slash_name_is_no_repo(repo: str) -> None:
    assert not is_repo_id(repo)


@pytest.mark.parametrize("repo", ["Qwen/Qwen2-7B-Instruct", "a/b", "me_1/x.y-z"])
def test_hub_ids_are_repos(repo: str) -> None:
    assert is_repo_id(repo)


def test_a_value_of_the_wrong_kind_is_cut_in_the_message() -> None:
    with pytest.raises(ConfigError) as raised:
        TrainConfig.build({"model_name_or_path": "m", "dataset": [{"prompt": "a\n"}] * 50_000, "output_dir": "o"})
    assert len(raised.value.message) < 500
    assert raised.value.message.endswith("... (a list) is not a text")


@pytest.mark.parametrize(
    ("given", "tokens", "layers"),
    [
        ({}, "auto", "auto"),
        ({"gradient_accumulation_steps": 8}, "auto", "auto"),
        ({"per_device_train_batch_size": 4}, None, "auto"),  # the default, but given
        ({"tokens_per_batch": 4096}, 4096, "auto"),
        ({"gradient_checkpointing": True}, "auto", None),
        ({"gradient_checkpointing": False}, "auto", None),
        ({"checkpoint_layers": 3}, "auto", 3),
        ({"loss_type": ["aot"]}, None, "auto"),  # compares all pairs of a batch
        ({"num_processes": 2}, None, "auto"),  # repeats more pairs when it is cut by tokens
    ],
)
def test_a_gpu_measures_passes_that_no_option_sets(given: dict[str, object], tokens: object, layers: object) -> None:
    config = TrainConfig.build({**TRAIN, **given}).for_gpu()
    assert (config.tokens_per_batch, config.checkpoint_layers) == (tokens, layers)


@pytest.mark.parametrize(
    ("given", "recorded", "tokens", "layers"),
    [
        ({}, (5120, 3), 5120, 3),
        ({}, (None, None), None, None),  # by pairs, or an earlier version's
        ({"per_device_train_batch_size": 2}, (5120, 3), None, 3),
        ({"tokens_per_batch": 2048, "gradient_checkpointing": True}, (5120, 3), 2048, None),
    ],
)
def test_a_resumed_run_keeps_the_passes_that_it_had(
    given: dict[str, object], recorded: tuple[int | None, int | None], tokens: object, layers: object
) -> None:
    earlier = dict(zip(("tokens_per_batch", "checkpoint_layers"), recorded, strict=True))
    config = TrainConfig.build({**TRAIN, **given}).for_gpu(earlier)
    assert (config.tokens_per_batch, config.checkpoint_layers) == (tokens, layers)


NEEDED: dict[type[Config], dict[str, object]] = {TrainConfig: TRAIN, EvaluateConfig: {"model": "run"}}
BESIDE: dict[str, dict[str, object]] = {
    "prompt": {"chosen": "c", "rejected": "r"},
    "answers": {"prompt": "p", "vote": "v"},
    "scores": {"prompt": "p", "answers": "a"},
    "ranks": {"prompt": "p", "answers": "a"},
    "vote": {"prompt": "p", "answers": "a"},
    "first": {"prompt": "p", "answers": "a", "vote": "v", "second": "b"},
    "second": {"prompt": "p", "answers": "a", "vote": "v", "first": "a"},
    "tie": {"first": "a", "second": "b"},
    "good": {"bad": "b"},
    "bad": {"good": "a"},
}
"""What a description has beside each of its lists."""
LISTS = [
    (config, name, item_type(field.annotation))
    for config in (PrepareConfig, TrainConfig, PushConfig, EvaluateConfig)
    for name, field in config.model_fields.items()
    if item_type(field.annotation) in (str, float)
]
WORDS = {"loss_type": "sigmoid", "report_to": "wandb"}


@pytest.mark.parametrize(("config", "name", "kind"), LISTS)
def test_a_single_value_is_a_list_of_one(config: type[Config], name: str, kind: type, tmp_path: Path) -> None:
    value = WORDS.get(name, "en") if kind is str else 1.5
    needed = NEEDED.get(config, {"source": "x", "output_dir": "d"} | BESIDE.get(name, {}))
    (tmp_path / "c.yaml").write_text(f"{name}: {value}")
    for made in (
        config.build({**needed, name: value}),
        config.build({k: v for k, v in needed.items() if k != name}, file=tmp_path / "c.yaml"),
        config(**{**needed, name: value}),
    ):
        assert getattr(made, name) == [value]


@pytest.mark.parametrize(
    ("name", "given", "typed"),
    [
        ("map", {"prompt": "q", "chosen": "a", "rejected": "b"}, "prompt=q,chosen=a,rejected=b"),
        ("labels", {"first": 1, "second": [2, 3], "tie": False}, "first=1,second=2,second=3,tie=False"),
        ("map", ["prompt=q", "chosen=a", "rejected=b"], "prompt=q,chosen=a,rejected=b"),
        ("labels", {"first": "a, b", "second": "c"}, 'first="a, b",second=c'),
        ("labels", ["first=a, b", "second=c"], 'first="a, b",second=c'),
        ("test_size", "10%", 0.1),
        ("max_reject", " 5% ", 0.05),
    ],
)
def test_a_mapping_is_taken_for_what_is_typed(name: str, given: object, typed: object) -> None:
    config = PrepareConfig.build({"source": "x", "output_dir": "d", name: given})
    assert getattr(config, name) == typed


@pytest.mark.parametrize("name", ["labels", "map"])
@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({}, "it is empty"),
        ([], "it is empty"),
        ("", "it is empty"),
        ([("first", "x,y")], r"\('first', 'x,y'\) is not NAME=VALUE"),
        ({"first": {"x", "y"}}, "`first` is of type set"),
    ],
)
def test_what_names_no_values_is_refused(name: str, value: object, message: str) -> None:
    with pytest.raises(ConfigError, match=f"option `--{name}` is not valid: {message}"):
        PrepareConfig.build({"source": "x", "output_dir": "d", name: value})


def test_all_mistakes_of_a_file_and_a_call_are_told_at_once(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("learning_rte: 1e-5\nyarn: 2\nbeta: strong\nlora_r: 0\n")
    with pytest.raises(ConfigError) as caught:
        TrainConfig.build({"dataset_name": "data", "output_dir": "run"}, file=file)
    message, hint = caught.value.message, str(caught.value.hint)
    assert f"unknown options in `{file}`: `learning_rte` and `yarn`" in message
    assert "unknown option: `dataset_name`" in message
    assert f"`beta` in `{file}` is not valid: 'strong' is not a number" in message
    assert f"`lora_r` in `{file}` is not valid" in message
    assert "option `--model-name-or-path` is needed" in message
    assert "rename `learning_rte` to `learning_rate`" in hint
    assert "did you mean `dataset`?" in hint
    assert "add `--model-name-or-path BASE`" in hint


def test_what_is_misspelt_is_not_called_missing_as_well() -> None:
    with pytest.raises(ConfigError) as caught:
        TrainConfig.build({"model": "me/base", "dataset_name": "data", "output_dir": "run"})
    assert caught.value.message == "unknown options: `model` and `dataset_name`"
    assert caught.value.hint == "rename `model` to `model_name_or_path`; rename `dataset_name` to `dataset`"


def test_an_unknown_option_of_many_is_looked_up_in_the_help() -> None:
    with pytest.raises(ConfigError, match="unknown option: `yarn`") as caught:
        TrainConfig.build({**TRAIN, "yarn": 2})
    assert caught.value.hint == "see `hubdpo train --help`"


@pytest.mark.parametrize("value", [None, [1, None]])
def test_a_missing_value_is_no_vote(value: object) -> None:
    with pytest.raises(ConfigError, match="`second` is None, and a missing value cannot be a vote"):
        PrepareConfig.build({"source": "x", "output_dir": "d", "labels": {"first": 2, "second": value}})


@pytest.mark.parametrize(
    "text", ["a, b", ",", 'say "yes", twice', '"a"', '"a, b"', '",', " a ", "first=1", "one\ntwo", 'a"', ""]
)
def test_any_name_and_value_can_be_typed(text: str) -> None:
    pairs = [("first", text), ("second", "c"), (text.replace("=", ""), text), ("first", "d")]
    assert read_pairs(write_pairs(pairs)) == pairs


def test_quotes_that_nothing_needs_are_part_of_a_value() -> None:
    assert read_pairs('first="A", second = b=c,x') == [("first", '"A"'), ("second", "b=c"), ("x", "")]


@pytest.mark.parametrize(
    ("options", "words", "hint"),
    [
        ({"seed": True}, "True is not a number", "`--seed 42` is the default"),
        ({"beta": False}, "False is not a number", "`--beta 0.1` is the default"),
        ({"reference": "x"}, "'x' is not one of online, cached", "--reference online"),
        (
            {"max_prompt_length": "x"},
            "'x' is not a whole number",
            "leave `--max-prompt-length` out",
        ),
        ({"dry_run": "x"}, "valid boolean", "`--dry-run` or `--no-dry-run`"),
        ({"output_dir": 5}, "not a valid path", "--output-dir dir"),
        ({"dataset": [{"prompt": "a"}]}, "is not a text", "rows go to `hubdpo.prepare` first"),
    ],
)
def test_a_value_of_another_kind_is_refused_with_what_to_give(
    options: dict[str, object], words: str, hint: str
) -> None:
    needed = {"model_name_or_path": "me/base", "dataset": "data", "output_dir": "run"}
    with pytest.raises(ConfigError, match=words) as caught:
        TrainConfig.build(needed | options)
    assert hint in str(caught.value.hint).lower()


@pytest.mark.parametrize("name", ["dataset", "adapter", "model_name_or_path"])
def test_an_empty_name_is_no_name(name: str) -> None:
    with pytest.raises(ConfigError, match=name.replace("_", "[-_]")):
        TrainConfig.build({"model_name_or_path": "a/b", "dataset": "d", "output_dir": "r", name: ""})
