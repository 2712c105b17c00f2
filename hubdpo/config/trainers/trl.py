"""Config files of TRL's `trl dpo`: ScriptArguments, ModelConfig and DPOConfig (trl 1.16)."""

from __future__ import annotations

from typing import Any

from hubdpo.config.base import Values
from hubdpo.config.trainers import common
from hubdpo.config.trainers.table import Trainer


def _dropout(value: Any, values: Values) -> Values:
    """Take TRL's dropout: none, as `disable_dropout`, which is on by default, switches off that of LoRA as well."""
    return {"lora_dropout": value if values.get("disable_dropout") is False else 0.0}


TRL = Trainer(
    name="TRL",
    marks=frozenset({
        "dataset_name", "use_peft", "dataset_train_split", "dataset_test_split", "dataset_config", "torch_dtype",
        "bf16",
        "precompute_ref_log_probs", "eval_strategy", "lora_task_type", "bnb_4bit_quant_type",
        "gradient_checkpointing_kwargs",
        "push_to_hub", "logging_strategy", "save_strategy", "attn_implementation", "use_bnb_nested_quant", "fp16",
    }),
    renamed={"dataset_name": "dataset", "activation_checkpointing": "gradient_checkpointing"},
    converted={**common.CONVERTED, "lora_dropout": _dropout},
    says={
        **common.SAYS,
        "use_peft": ((True,), common.ADAPTERS),
        "dataset_config": (("default",), "a prepared dataset has one configuration"),
        "dataset_train_split": (("train",), "the split is `train`"),
        "dataset_test_split": (("test",), "held-out pairs are in the split `test`"),
        "dataset_streaming": (common.OFF, "the pairs are tokenised before the first step"),
        "streaming": (common.OFF, "the pairs are tokenised before the first step"),
        "lora_task_type": (("CAUSAL_LM",), "hubdpo trains causal language models"),
        "bnb_4bit_quant_type": (("nf4",), "the base is quantised to NF4"),
        "use_bnb_nested_quant": ((True,), "the scales of NF4 are quantised as well"),
        "sync_ref_model": (common.OFF, "the reference is the base, and stays as it is"),
        "generate_during_eval": (common.OFF, "`hubdpo evaluate` writes samples"),
        "is_encoder_decoder": (common.OFF, "hubdpo trains causal language models"),
        "reference_free": (common.OFF, "DPO's loss without a reference is --loss-type cpo with --cpo-alpha 0"),
    },
    refused={
        **common.REFUSED,
        "truncation_mode": "prompts are cut from the left, and answers from the right",
        "max_completion_length": "--max-length and --max-prompt-length leave the rest to the answer",
        "max_target_length": "--max-length and --max-prompt-length leave the rest to the answer",
        "pad_token": "the tokenizer is used as it is",
        "rpo_alpha": "--loss-type sigmoid --loss-type sft --loss-weights 1 --loss-weights ALPHA is the same loss",
        "datasets": common.JOINS, "dataset_mixer": common.JOINS, "test_split_size": "hubdpo prepare --test-size",
        "ref_model_init_kwargs": "the reference is the base without the adapter",
        "force_use_ref_model": "the reference is the base without the adapter",
    },
    free=common.FREE | {
        "bnb_4bit_quant_storage", "precompute_ref_batch_size", "ref_model_mixup_alpha", "ref_model_sync_steps",
        "use_logits_to_keep", "disable_dropout", "padding_free",
    },
    instead={
        "fp16": "--dtype bfloat16", "load_in_8bit": "--load-in-4bit",
        "reference_free": "--loss-type cpo --cpo-alpha 0", "auto_find_batch_size": "--tokens-per-batch auto",
    },
    defaults={**common.DEFAULTS, "learning_rate": 1e-6},
)  # fmt: skip
