"""Config files of LLaMA-Factory's DPO stage (0.9)."""

from __future__ import annotations

from typing import Any

from hubdpo.config.base import Unfit, Values
from hubdpo.config.trainers import common
from hubdpo.config.trainers.table import Convert, Trainer, only, switch


def _rank(value: Any, values: Values) -> Values:
    """Take the rank, and the alpha that follows from it when the file has none."""
    return {"lora_r": value} | ({} if values.get("lora_alpha") is not None else {"lora_alpha": 2 * value})


def _names(value: Any) -> list[str]:
    return [name.strip() for name in value.split(",")] if isinstance(value, str) else list(value)


def _dataset(value: Any, values: Values) -> Values:
    names = _names(value)
    if len(names) > 1:
        raise Unfit(common.JOINS, hint="")
    return {"dataset": names[0]}


CONVERTED: dict[str, Convert] = {
    **common.CONVERTED,
    "lora_target": lambda value, values: {"lora_target_modules": ["all-linear"] if value == "all" else _names(value)},
    "lora_rank": _rank, "dataset": _dataset, "eval_dataset": lambda value, values: {"eval_dataset": _names(value)},
    "pref_loss": only(
        {name: {"loss_type": [name]} for name in ("sigmoid", "hinge", "ipo", "orpo", "simpo")},
        "sigmoid, hinge, ipo, orpo and simpo are known",
    ),
    "quantization_bit": only({4: {"load_in_4bit": True}}, "a base is loaded in 4 bits or not quantised"),
    "enable_thinking": lambda value, values: {"chat_template_kwargs": {"enable_thinking": value}},
    "use_swanlab": switch({"report_to": ["swanlab"]}),
    "pure_bf16": only({False: {}}, "the adapter is trained in float32, as in bfloat16 small steps round away"),
}  # fmt: skip

LLAMA_FACTORY = Trainer(
    name="LLaMA-Factory",
    marks=frozenset({
        "stage", "finetuning_type", "lora_target", "lora_rank", "cutoff_len", "pref_loss", "pref_beta", "dataset_dir",
        "template", "quantization_bit", "pref_ftx",
    }),
    renamed={
        "cutoff_len": "max_length", "pref_beta": "beta", "dpo_label_smoothing": "label_smoothing",
        "adapter_name_or_path": "adapter", "enable_liger_kernel": "use_liger_kernel",
        "swanlab_project": "project", "swanlab_run_name": "run_name",
    },
    converted=CONVERTED,
    says={
        **common.SAYS,
        "stage": (("dpo",), "hubdpo trains with preferences (dpo)"),
        "finetuning_type": (("lora",), common.ADAPTERS),
        "pref_ftx": ((0, 0.0), "--loss-type sigmoid --loss-type sft with --loss-weights adds that term"),
        "quantization_method": (("bnb", "bitsandbytes"), "bitsandbytes quantises the base"),
        "quantization_type": (("nf4",), "the base is quantised to NF4"),
        "double_quantization": ((True,), "the scales of NF4 are quantised as well"),
        "pissa_init": (common.OFF, "it changes the base, which is the reference"),
        "use_galore": (common.OFF, "it does not fit an adapter"),
        "use_apollo": (common.OFF, "it does not fit an adapter"),
        "use_badam": (common.OFF, "it does not fit an adapter"), "use_adam_mini": (common.OFF, "take --optim"),
        "use_muon": (common.OFF, "take --optim"), "packing": (common.OFF, common.FULL_ROWS),
        "neat_packing": (common.OFF, common.FULL_ROWS), "streaming": (common.OFF, "pairs are tokenised first"),
        "train_on_prompt": (common.OFF, "answers alone are scored"),
        "mask_history": (common.OFF, "answers alone are scored"),
        "shift_attn": (common.OFF, "the base attends as its config says"),
        "upcast_layernorm": (common.OFF, "the base computes in one type"),
        "use_dft_loss": (common.OFF, "it is for SFT"),
        "val_size": ((0, 0.0), "`hubdpo prepare --test-size` sets pairs aside"),
        "create_new_adapter": (common.OFF, "--adapter trains that adapter further"),
    },
    refused={
        **common.REFUSED,
        "max_samples": "a dataset is trained on whole: prepare fewer rows",
        "loraplus_lr_ratio": "all weights of an adapter have one learning rate",
        "additional_target": "hubdpo trains LoRA matrices only", "freeze_trainable_layers": common.ADAPTERS,
        "ref_model": "the reference is the base without the adapter", "ref_model_adapters": "see --reference-adapter",
        "rope_scaling": "the base computes as its config says", "interleave_probs": common.JOINS,
        "mix_strategy": common.JOINS, "tokenized_path": "hubdpo tokenises the pairs itself",
        "pref_bco_weight": "--loss-type sigmoid --loss-type bco_pair with --loss-weights sums both",
        "kto_chosen_weight": "hubdpo trains on pairs", "kto_rejected_weight": "hubdpo trains on pairs",
        "resize_vocab": "the vocabulary of the base stays as it is",
        "new_special_tokens": "the tokenizer is used as it is",
        "add_tokens": "the tokenizer is used as it is",
        "default_system": "a system prompt stands in the data: prepare it",
    },
    free=common.FREE | {
        "template", "dataset_dir", "media_dir", "plot_loss", "flash_attn", "use_unsloth",
        "use_unsloth_gc", "cache_dir", "use_fast_tokenizer", "split_special_tokens", "low_cpu_mem_usage",
        "infer_backend",
        "infer_dtype", "print_param_status", "swanlab_mode", "disable_gradient_checkpointing", "compute_accuracy",
        "include_effective_tokens_per_second", "preprocessing_batch_size", "data_shared_file_system",
        "upcast_lmhead_output",
    },
    defaults={
        **common.DEFAULTS, "learning_rate": 5e-5, "lora_r": 8, "lora_alpha": 16, "max_length": 2048,
        "lora_target_modules": ["all-linear"],
    },
)  # fmt: skip
