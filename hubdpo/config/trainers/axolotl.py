"""Config files of axolotl with `rl: dpo`."""

from __future__ import annotations

from typing import Any

from hubdpo.config.base import Unfit, Values
from hubdpo.config.trainers import common
from hubdpo.config.trainers.table import Convert, Trainer, only, switch


def _dataset(value: Any, values: Values) -> Values:
    if not isinstance(value, list) or len(value) != 1:
        raise Unfit(common.JOINS, hint="")
    name, split = _source(value[0])
    if split not in (None, "train"):
        raise Unfit(f"its split is `{split}`, and hubdpo trains on `train`", hint="")
    return {"dataset": name}


def _source(item: Any) -> tuple[str, str | None]:
    if not isinstance(item, dict) or "path" not in item:
        raise Unfit("each dataset needs a `path`", hint="")
    return item["path"], item.get("split")


def _held_out(value: Any, values: Values) -> Values:
    return {"eval_dataset": [_source(item)[0] for item in value]}


def _adapter(value: Any, values: Values) -> Values:
    """Take how the adapter is trained: `qlora` is on a quantised base; `lora` as `load_in_4bit` says."""
    lora: Values = {} if "load_in_4bit" in values else {"load_in_4bit": False}
    return only({"qlora": {"load_in_4bit": True}, "lora": lora}, common.ADAPTERS)(value, values)


def _liger(value: Any, values: Values) -> Values:
    """Take Liger's kernels for rotary positions or the MLP, which hubdpo has as one option."""
    return {"use_liger_kernel": True} if value else {}


def _tracked(value: Any, values: Values) -> Values:
    return {"report_to": ["wandb"], "project": value} if value else {}


def _losses(value: Any, values: Values) -> Values:
    """Take the losses. axolotl runs SimPO in TRL's CPOTrainer, which adds the likelihood of the chosen answer."""
    likelihood = values.get("cpo_alpha", 1.0)
    simpo = (
        {"loss_type": ["simpo", "sft"], "loss_weights": [1.0, likelihood]} if likelihood else {"loss_type": ["simpo"]}
    )
    known = {"dpo": {}, "ipo": {"loss_type": ["ipo"]}, "orpo": {"loss_type": ["orpo"]}, "simpo": simpo}
    return only(known, "dpo, ipo, orpo and simpo are known")(value, values)


CONVERTED: dict[str, Convert] = {
    **common.CONVERTED,
    "datasets": _dataset, "test_datasets": _held_out, "adapter": _adapter, "wandb_project": _tracked,
    "liger_rope": _liger, "liger_glu_activation": _liger, "liger_swiglu": _liger,
    "rl": _losses, "cpo_alpha": lambda value, values: {},  # a part of `rl: simpo`
    "lora_target_linear": switch({"lora_target_modules": ["all-linear"]}),
    "chat_template": lambda value, values: {} if value == "tokenizer_default" else {"chat_template": value},
    "gradient_checkpointing": lambda value, values: {"gradient_checkpointing": bool(value)},
}  # fmt: skip

AXOLOTL = Trainer(
    name="axolotl",
    marks=frozenset({
        "base_model", "rl", "sequence_len", "micro_batch_size", "datasets", "val_set_size", "num_epochs",
        "dataset_prepared_path", "lora_target_linear", "sample_packing", "wandb_project",
    }),
    renamed={
        "base_model": "model_name_or_path", "revision_of_model": "model_revision", "sequence_len": "max_length",
        "micro_batch_size": "per_device_train_batch_size", "eval_batch_size": "per_device_eval_batch_size",
        "num_epochs": "num_train_epochs", "optimizer": "optim", "lr_scheduler": "lr_scheduler_type", "rl_beta": "beta",
        "dpo_beta": "beta", "orpo_alpha": "beta", "dpo_label_smoothing": "label_smoothing",
        "dpo_use_weighting": "use_weighting",
        "peft_use_dora": "use_dora", "peft_use_rslora": "use_rslora", "lora_model_dir": "adapter",
        "peft_layers_to_transform": "layers_to_transform", "peft_init_lora_weights": "init_lora_weights",
        "wandb_name": "run_name", "dpo_loss_type": "loss_type",
    },
    converted=CONVERTED,
    says={
        **common.SAYS,
        "sample_packing": (common.OFF, common.FULL_ROWS), "train_on_inputs": (common.OFF, "answers alone are scored"),
        "val_set_size": ((0, 0.0), "`hubdpo prepare --test-size` sets pairs aside"),
        "special_tokens": ((None, {}), "the tokenizer is used as it is"),
        "tokens": ((None, []), "the tokenizer is used as it is"),
        "lora_fan_in_fan_out": (common.OFF, "hubdpo adapts linear layers only"),
        "unfrozen_parameters": ((None, []), common.ADAPTERS),
        "relora_steps": ((None, 0), "the adapter is trained in one go"),
        "wandb_log_model": ((None, "", "false"), common.PUBLISHES),
        "hub_model_id": ((None, ""), common.PUBLISHES),
        "peft_autocast_adapter_dtype": ((True, None), "the adapter is trained in float32"),
    },
    refused={
        **common.REFUSED,
        "cosine_min_lr_ratio": "--lr-scheduler-type cosine_with_min_lr has it, as min_lr_rate of --lr-scheduler-kwargs",
        "rpo_alpha": "--loss-type sigmoid --loss-type sft --loss-weights 1 --loss-weights ALPHA is the same loss",
        "loraplus_lr_ratio": "all weights of an adapter have one learning rate",
        "lr_groups": "all weights of an adapter have one learning rate",
        "peft_layer_replication": "hubdpo adapts the layers of the base",
        "overrides_of_model_config": "the base computes as its config says", "default_system_message":
        "a system prompt stands in the data: prepare it",
        "mlflow_tracking_uri": "MLFLOW_TRACKING_URI is its environment variable",
        "mlflow_experiment_name": "--project is the experiment", "pretraining_dataset": "hubdpo trains on pairs",
        "kto_desirable_weight": "hubdpo trains on pairs", "kto_undesirable_weight": "hubdpo trains on pairs",
    },
    free=common.FREE - {"hub_model_id"} | {
        "model_type", "tokenizer_type", "is_llama_derived_model", "strict", "dataset_prepared_path",
        "pad_to_sequence_len", "evals_per_epoch", "saves_per_epoch", "eval_table_size", "eval_max_new_tokens",
        "eval_sample_packing", "xformers_attention", "flash_attention", "sdp_attention", "flash_attn_cross_entropy",
        "flash_attn_rms_norm", "wandb_entity", "wandb_watch", "wandb_run_id", "loss_watchdog_threshold",
        "loss_watchdog_patience", "lora_mlp_kernel", "lora_qkv_kernel", "lora_o_kernel", "lora_on_cpu",
        "dataset_processes", "plugins", "shuffle_merged_datasets", "early_stopping", "liger_rms_norm",
        "liger_layer_norm", "liger_cross_entropy", "liger_fused_linear_cross_entropy", "s2_attention",
        "dpo_padding_free", "skip_prepare_dataset", "use_tensorboard",
    },
    defaults={
        "per_device_train_batch_size": 1, "gradient_accumulation_steps": 1, "num_train_epochs": 1.0,
        "warmup_ratio": 0.0, "load_in_4bit": False, "max_length": 512,
    },
)  # fmt: skip
