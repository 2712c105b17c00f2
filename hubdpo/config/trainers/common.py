"""Keys of transformers' TrainingArguments, which TRL, LLaMA-Factory and axolotl hand on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hubdpo.config.base import Unfit, Values
from hubdpo.config.trainers.table import Convert, only, switch

OFF: tuple[object, ...] = (False, None)
PUBLISHES = "hubdpo publishes with `hubdpo push` after training"
LAUNCHES = "it belongs into accelerate's config: accelerate launch --config_file FILE -m hubdpo train ..."
JOINS = "`hubdpo prepare` joins several sources into one dataset"
ADAPTERS = "hubdpo trains LoRA adapters only"
FULL_ROWS = "every pair is a row of its own, whose prompt is run once"


def _weights_type(value: Any, values: Values) -> Values:
    """Take a type of the weights; beside `bf16: true` they are computed with, and kept, in bfloat16."""
    name = str(value).removeprefix("torch.")
    return {} if name == "float32" and values.get("bf16") is True else {"dtype": name}


def _best(value: Any, values: Values) -> Values:
    raise Unfit("the metric says whether more is better: eval_loss less, the others more", hint="leave it out")


def _same_seed(value: Any, values: Values) -> Values:
    return only({values.get("seed", 42): {}}, "`seed` orders the data as well")(value, values)


def _greater(value: Any, values: Values) -> Values:
    loss = str(values.get("metric_for_best_model") or "loss").removeprefix("eval_") == "loss"
    return only({not loss: {}}, "a lower loss and a higher accuracy or margin are better")(value, values)


_BFLOAT16: Values = {"dtype": "bfloat16"}
CONVERTED: dict[str, Convert] = {
    "bf16": only(
        {True: _BFLOAT16, "true": _BFLOAT16, "full": _BFLOAT16, "auto": {}, False: {"dtype": "float32"}},
        "true, false and auto are known",
    ),
    "torch_dtype": _weights_type, "dtype": _weights_type, "data_seed": _same_seed, "greater_is_better": _greater,
    "resume_from_checkpoint": only(
        {True: {"resume": True}, False: {}, "": {}}, "a run resumes from its newest checkpoint: --resume"
    ),
    "use_cpu": switch({"device": "cpu"}), "precompute_ref_log_probs": switch({"reference": "cached"}),
    "full_determinism": lambda value, values: {"deterministic": value},
}  # fmt: skip
SAYS: dict[str, tuple[tuple[object, ...], str]] = {
    "fp16": (OFF, "float16 gave losses that are not finite in DPO: take bfloat16 or float32"),
    "tf32": (OFF, "hubdpo leaves PyTorch's setting as it is"),
    "bf16_full_eval": (OFF, "an evaluation computes as training does"),
    "fp16_full_eval": (OFF, "an evaluation computes as training does"),
    "load_in_8bit": (OFF, "a base is loaded in 4 bits (--load-in-4bit) or not quantised"),
    "push_to_hub": (OFF, PUBLISHES), "deepspeed": ((*OFF, ""), LAUNCHES), "fsdp": ((*OFF, "", []), LAUNCHES),
    "fsdp_config": ((None, {}), LAUNCHES), "accelerator_config": ((None, {}), LAUNCHES),
    "parallelism_config": ((None, {}), LAUNCHES),
    "auto_find_batch_size": (OFF, "--tokens-per-batch auto fills the memory and keeps the pairs of a step"),
    "label_smoothing_factor": ((0, 0.0), "the loss of preferences has --label-smoothing"),
    "group_by_length": (OFF, "pairs are drawn in random order"),
    "train_sampling_strategy": (("random",), "pairs are drawn in random order"),
    "dataloader_drop_last": (OFF, "the last step of an epoch takes the pairs that are left"),
    "ignore_data_skip": (OFF, "a resumed run goes on with the next pairs"),
    "save_only_model": (OFF, "a checkpoint without the optimiser could not be resumed exactly"),
    "eval_strategy": (("steps", "no"), "evaluations are every --eval-steps"),
    "evaluation_strategy": (("steps", "no"), "evaluations are every --eval-steps"),
    "save_strategy": (("steps", "no"), "checkpoints are saved every --save-steps"),
    "logging_strategy": (("steps",), "metrics are logged every --logging-steps"),
    "eval_delay": ((0, 0.0), "the first evaluation is at --eval-steps"),
    "eval_on_start": (OFF, "the first evaluation is at --eval-steps"),
    "enable_jit_checkpoint": (OFF, "checkpoints are saved every --save-steps, and at Ctrl-C"),
    "do_predict": (OFF, "`hubdpo evaluate` scores the adapter"),
    "do_train": ((True, None), "`hubdpo evaluate` scores a run"),
}  # fmt: skip
REFUSED: dict[str, str] = {
    "neftune_noise_alpha": "noise on embeddings would differ between policy and reference",
    "optim_args": "optimisers have their own options: --adam-beta1, --adam-beta2, --adam-epsilon",
    "optim_target_modules": "it belongs to optimisers that do not fit an adapter",
    "model_init_kwargs": "the base has options of its own: --dtype, --load-in-4bit",
    "trackio_space_id": "hubdpo reports to Trackio on this machine",
    "trackio_bucket_id": "hubdpo reports to Trackio on this machine",
    "trackio_static_space_id": "hubdpo reports to Trackio on this machine",
    "lora_modules_to_save": "hubdpo trains LoRA matrices only",
    "lora_target_parameters": "hubdpo adapts linear layers only",
    "router_aux_loss_coef": "hubdpo takes the coefficient of the base's config",
    "include_for_metrics": "the metrics are TRL's",
}  # fmt: skip
FREE = frozenset({
    "activation_offloading", "attn_implementation", "average_tokens_across_devices", "batch_eval_metrics",
    "dataloader_in_order", "dataloader_multiprocessing_context", "dataloader_num_workers",
    "dataloader_persistent_workers", "dataloader_pin_memory", "dataloader_prefetch_factor",
    "ddp_backend", "ddp_broadcast_buffers", "ddp_bucket_cap_mb", "ddp_find_unused_parameters", "ddp_static_graph",
    "ddp_timeout", "debug", "disable_tqdm", "do_eval", "eval_accumulation_steps", "eval_do_concat_batches",
    "eval_use_gather_object", "gradient_checkpointing_kwargs", "activation_checkpointing_kwargs", "hub_always_push",
    "hub_model_id", "hub_private_repo", "hub_revision", "hub_strategy", "hub_token", "ignore_bias_buffers",
    "include_num_input_tokens_seen", "include_tokens_per_second", "jit_mode_eval", "label_names",
    "length_column_name", "liger_kernel_config", "local_rank", "log_level", "log_level_replica", "log_on_each_node",
    "logging_dir", "logging_first_step", "logging_nan_inf_filter", "no_cuda", "overwrite_cache",
    "overwrite_output_dir", "pad_to_multiple_of", "prediction_loss_only", "preprocessing_num_workers",
    "remove_unused_columns", "restore_callback_states_from_checkpoint", "save_on_each_node", "save_safetensors",
    "skip_memory_metrics", "torch_compile", "torch_compile_backend", "torch_compile_mode",
    "torch_empty_cache_steps", "trust_remote_code", "use_cache", "use_flash_attention_2",
})  # fmt: skip
"""Speed, memory, logging and files of other programs. `trust_remote_code` is among them: hubdpo runs no code of a repo,
and refuses a base that needs some."""
DEFAULTS: Mapping[str, object] = {
    "per_device_train_batch_size": 8, "gradient_accumulation_steps": 1, "num_train_epochs": 3.0,
    "lr_scheduler_type": "linear", "warmup_ratio": 0.0, "load_in_4bit": False,
}  # fmt: skip
