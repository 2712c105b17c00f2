"""Config files of other trainers work unchanged, or one message says which of their keys do not apply."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml

from hubdpo.config import TrainConfig
from hubdpo.config.train import TRAINERS
from hubdpo.config.trainers.table import Trainer
from hubdpo.config.trainers.trl import TRL
from hubdpo.errors import ConfigError

FILES = {
    "TRL": """
        model_name_or_path: Qwen/Qwen2-0.5B-Instruct
        torch_dtype: bfloat16
        dataset_name: me/pairs
        dataset_train_split: train
        dataset_num_proc: 8
        attn_implementation: flash_attention_2
        use_peft: true
        load_in_4bit: true
        bnb_4bit_quant_type: nf4
        use_bnb_nested_quant: true
        lora_r: 32
        lora_alpha: 16
        lora_dropout: 0.05
        lora_target_modules: all-linear
        bf16: true
        beta: 0.05
        loss_type: ipo
        learning_rate: 5.0e-7
        lr_scheduler_type: cosine
        warmup_steps: 0.1
        num_train_epochs: 2
        per_device_train_batch_size: 4
        gradient_accumulation_steps: 8
        gradient_checkpointing: true
        gradient_checkpointing_kwargs:
          use_reentrant: false
        precompute_ref_log_probs: true
        optim: paged_adamw_32bit
        eval_strategy: steps
        eval_steps: 100
        logging_strategy: steps
        logging_steps: 10
        save_strategy: steps
        push_to_hub: false
        report_to: [wandb]
        seed: 7
        output_dir: out
    """,
    "LLaMA-Factory": """
        model_name_or_path: Qwen/Qwen2-0.5B-Instruct
        quantization_bit: 4
        trust_remote_code: true
        stage: dpo
        do_train: true
        finetuning_type: lora
        lora_rank: 8
        lora_target: all
        pref_beta: 0.2
        pref_loss: sigmoid
        dataset: me/pairs
        template: qwen
        cutoff_len: 2048
        overwrite_cache: true
        preprocessing_num_workers: 16
        output_dir: out
        logging_steps: 10
        plot_loss: true
        overwrite_output_dir: true
        report_to: none
        per_device_train_batch_size: 1
        gradient_accumulation_steps: 8
        learning_rate: 5.0e-6
        num_train_epochs: 3.0
        lr_scheduler_type: cosine
        warmup_ratio: 0.1
        bf16: true
        ddp_timeout: 180000000
        resume_from_checkpoint: null
        enable_thinking: false
    """,
    "axolotl": """
        base_model: Qwen/Qwen2-0.5B-Instruct
        model_type: AutoModelForCausalLM
        load_in_8bit: false
        load_in_4bit: true
        strict: false
        rl: dpo
        datasets:
          - path: me/pairs
            split: train
            type: chat_template.default
        dataset_prepared_path: last_run_prepared
        val_set_size: 0.0
        output_dir: out
        adapter: qlora
        sequence_len: 2048
        sample_packing: false
        lora_r: 32
        lora_alpha: 64
        lora_dropout: 0.05
        lora_target_linear: true
        lora_target_modules:
        wandb_project: ours
        gradient_accumulation_steps: 4
        micro_batch_size: 2
        num_epochs: 1
        optimizer: adamw_8bit
        lr_scheduler: cosine
        learning_rate: 0.0002
        bf16: auto
        tf32: false
        gradient_checkpointing: true
        flash_attention: true
        warmup_steps: 10
        evals_per_epoch: 4
        weight_decay: 0.0
    """,
}
TAKEN: dict[str, dict[str, Any]] = {
    "TRL": {
        "dataset": "me/pairs", "dtype": "bfloat16", "lora_r": 32, "lora_dropout": 0.0, "warmup_ratio": 0.1,
        "lora_target_modules": ["all-linear"], "loss_type": ["ipo"], "reference": "cached", "beta": 0.05, "seed": 7,
        "optim": "paged_adamw_32bit", "report_to": ["wandb"], "eval_steps": 100, "learning_rate": 5e-7,
    },
    "LLaMA-Factory": {
        "dataset": "me/pairs", "load_in_4bit": True, "lora_r": 8, "lora_alpha": 16, "max_length": 2048, "beta": 0.2,
        "lora_target_modules": ["all-linear"], "dtype": "bfloat16", "report_to": [], "loss_type": ["sigmoid"],
        "chat_template_kwargs": {"enable_thinking": False}, "warmup_ratio": 0.1,
    },
    "axolotl": {
        "model_name_or_path": "Qwen/Qwen2-0.5B-Instruct", "dataset": "me/pairs", "load_in_4bit": True,
        "max_length": 2048,
        "lora_dropout": 0.05, "lora_target_modules": ["all-linear"], "project": "ours", "report_to": ["wandb"],
        "per_device_train_batch_size": 2, "num_train_epochs": 1.0, "optim": "adamw_8bit", "warmup_steps": 10,
    },
}  # fmt: skip


def written(folder: Path, values: str | dict[str, Any]) -> Path:
    path = folder / "theirs.yaml"
    path.write_text(values if isinstance(values, str) else yaml.safe_dump(values), encoding="utf-8")
    return path


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_another_trainer_works_unchanged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    config = TrainConfig.build({}, file=written(tmp_path, FILES[name]))
    assert {option: getattr(config, option) for option in TAKEN[name]} == TAKEN[name]
    assert f"config    of {name}; taken: " in capsys.readouterr().err


def test_what_was_taken_and_what_has_no_effect_is_said_in_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = {"dataset_name": "d", "model_name_or_path": "x/y", "use_peft": True, "lora_dropout": 0.1}
    TrainConfig.build({"output_dir": "r", "learning_rate": 1e-5, "lora_r": 8}, file=written(tmp_path, values))
    first, second = capsys.readouterr().err.splitlines()
    assert first == (
        "config    of TRL; taken: dataset_name as dataset, lora_dropout as lora_dropout 0.0; "
        "without effect here: use_peft"
    )
    assert "what the file leaves out has hubdpo's default, not TRL's: per_device_train_batch_size 4 (8)" in second
    assert "load_in_4bit true (false)" in second
    assert "learning_rate" not in second


def test_a_default_that_is_hubdpos_as_well_is_not_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = {"base_model": "x/y", "datasets": [{"path": "d"}], "rl": "dpo", "output_dir": "r"}
    TrainConfig.build({}, file=written(tmp_path, values))
    told = capsys.readouterr().err
    assert "gradient_accumulation_steps 4 (1)" in told
    assert "num_train_epochs" not in told


def test_one_message_lists_every_key_that_does_not_apply(tmp_path: Path) -> None:
    values = {"dataset_name": "d", "fp16": True, "use_peft": False, "neftune_noise_alpha": 5, "learning_rat": 1e-6}
    with pytest.raises(
        ConfigError, match="is a config of TRL, and 4 keys of it do not apply: `fp16`: it is true"
    ) as caught:
        TrainConfig.build({"model_name_or_path": "x/y", "output_dir": "r"}, file=written(tmp_path, values))
    for words in ("`use_peft`: it is false, and hubdpo trains LoRA adapters only", "`neftune_noise_alpha`: noise",
                  "`learning_rat`: hubdpo has no such option (did you mean `learning_rate`?)"):  # fmt: skip
        assert words in caught.value.message


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"stage": "kto"}, "`stage`: it is kto, and hubdpo trains with preferences"),
        ({"stage": "dpo", "dataset": "a,b"}, "`hubdpo prepare` joins several sources"),
        ({"stage": "dpo", "pref_loss": "kto_pair"}, "sigmoid, hinge, ipo"),
        ({"stage": "dpo", "pref_ftx": 0.1}, "--loss-type sft"),
        ({"rl": "kto"}, "`rl`: it is kto"),
        ({"rl": "dpo", "datasets": [{"path": "a"}, {"path": "b"}]}, "`hubdpo prepare` joins several sources"),
        ({"rl": "dpo", "datasets": [{"path": "a", "split": "train_prefs"}]}, "its split is `train_prefs`"),
        ({"rl": "dpo", "adapter": "lora", "dpo_beta": 0.1, "rl_beta": 0.2}, "another key sets `beta` as well"),
        ({"use_peft": True, "data_seed": 3}, "`seed` orders the data as well"),
        ({"use_peft": True, "deepspeed": "zero3.json"}, "accelerate launch"),
        ({"use_peft": True, "greater_is_better": True}, "a lower loss"),
    ],
)  # fmt: skip
def test_a_value_that_changes_the_result_is_not_left_out(tmp_path: Path, values: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        TrainConfig.build({"output_dir": "r"}, file=written(tmp_path, values))
    assert words in caught.value.message


@pytest.mark.parametrize(("values", "used"), [
    ({"use_peft": True, "use_liger_kernel": True}, True), ({"stage": "dpo", "enable_liger_kernel": True}, True),
    ({"rl": "dpo", "liger_rope": True, "liger_rms_norm": True}, True), ({"rl": "dpo", "liger_rms_norm": True}, False),
    ({"rl": "dpo", "liger_glu_activation": True, "liger_rope": False}, True),
])  # fmt: skip
def test_ligers_kernels_of_other_trainers(tmp_path: Path, values: dict[str, Any], used: bool) -> None:
    given = {"model_name_or_path": "x/y", "dataset": "d", "output_dir": "r"}
    assert TrainConfig.build(given, file=written(tmp_path, values)).use_liger_kernel is used


@pytest.mark.parametrize(("value", "nf4"), [("qlora", True), ("lora", False)])
def test_axolotls_adapter_is_its_quantisation(tmp_path: Path, value: str, nf4: bool) -> None:
    values = {"base_model": "x/y", "datasets": [{"path": "d"}], "adapter": value, "output_dir": "r"}
    assert TrainConfig.build({}, file=written(tmp_path, values)).load_in_4bit is nf4


@pytest.mark.parametrize(("values", "losses", "weights"), [
    ({"rl": "simpo"}, ["simpo", "sft"], [1.0, 1.0]),
    ({"rl": "simpo", "cpo_alpha": 0.2, "simpo_gamma": 1.0}, ["simpo", "sft"], [1.0, 0.2]),
    ({"rl": "simpo", "cpo_alpha": 0}, ["simpo"], None), ({"rl": "orpo", "orpo_alpha": 0.3}, ["orpo"], None),
])  # fmt: skip
def test_axolotls_simpo_has_the_likelihood_of_trls_cpo_trainer(
    tmp_path: Path, values: dict[str, Any], losses: list[str], weights: list[float] | None
) -> None:
    file = {"base_model": "x/y", "datasets": [{"path": "d"}], "adapter": "lora", "output_dir": "r", **values}
    config = TrainConfig.build({}, file=written(tmp_path, file))
    assert (config.loss_type, config.loss_weights) == (losses, weights)
    assert config.beta == values.get("orpo_alpha", 0.1)


@pytest.mark.parametrize(("values", "dtype"), [
    ({"bf16": True}, "bfloat16"), ({"bf16": False}, "float32"), ({"bf16": True, "dtype": "float32"}, "bfloat16"),
    ({"torch_dtype": "auto", "use_peft": True}, "auto"), ({"torch_dtype": "float32"}, "float32"),
])  # fmt: skip
def test_the_type_that_trl_computes_in(tmp_path: Path, values: dict[str, Any], dtype: str) -> None:
    given = {"model_name_or_path": "x/y", "dataset": "d", "output_dir": "r"}
    assert TrainConfig.build(given, file=written(tmp_path, values)).dtype == dtype


def test_a_file_of_hubdpo_is_read_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = {"model_name_or_path": "x/y", "dataset": "d", "output_dir": "r", "lora_dropout": 0.1}
    assert TrainConfig.build({}, file=written(tmp_path, values)).lora_dropout == 0.1
    with pytest.raises(ConfigError, match="unknown option in .*: `learning_rat`"):
        TrainConfig.build({}, file=written(tmp_path, {**values, "learning_rat": 1}))
    assert not capsys.readouterr().err


def test_a_flag_overrides_the_file(tmp_path: Path) -> None:
    assert TrainConfig.build({"beta": 0.5}, file=written(tmp_path, FILES["TRL"])).beta == 0.5


@pytest.mark.parametrize("trainer", TRAINERS, ids=lambda trainer: trainer.name)
def test_a_key_stands_in_one_table_alone(trainer: Trainer) -> None:
    tables = (trainer.renamed, trainer.converted, trainer.says, trainer.refused, trainer.free)
    keys = [key for table in tables for key in table]
    assert sorted(keys) == sorted(set(keys))
    assert trainer.defaults.keys() <= TrainConfig.model_fields.keys()
    assert trainer.marks <= {*keys, *trainer.renamed}


def test_every_option_of_trl_is_known() -> None:
    trl = pytest.importorskip("trl")
    if not trl.__version__.startswith("1.16"):
        pytest.skip("the table is of trl 1.16")
    fields = {
        each.name for kind in (trl.ScriptArguments, trl.ModelConfig, trl.DPOConfig) for each in dataclasses.fields(kind)
    }
    unknown = {name for name in fields if name not in TrainConfig.model_fields and not TRL.knows(name)}
    assert not unknown
