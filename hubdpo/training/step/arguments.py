"""The options of a run as TRL's arguments."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from trl import DPOConfig

from hubdpo.config import TrainConfig
from hubdpo.config.objective import TRL_LOSSES
from hubdpo.model.device import compute_dtype
from hubdpo.training.schedule import batches_of
from hubdpo.training.sharding import deepspeed_config

SAME_IN_TRL = (
    "beta", "label_smoothing", "ld_alpha", "use_weighting", "f_divergence_type", "f_alpha_divergence_coef",
    "discopop_tau", "learning_rate", "lr_scheduler_type", "lr_scheduler_kwargs",
    "weight_decay", "max_grad_norm", "gradient_checkpointing", "seed", "logging_steps",
    "eval_steps", "save_steps", "save_total_limit", "optim", "adam_beta1", "adam_beta2", "adam_epsilon",
)  # fmt: skip
"""Options that TRL takes as they are, under the same name."""


def dpo_config(
    config: TrainConfig,
    *,
    device: str,
    steps: int,
    evaluates: bool,
    warmup_steps: int = 0,
    eval_batch: int | None = None,
) -> DPOConfig:
    """Return TRL's arguments for a run of `steps` optimiser steps.

    A batch of an evaluation, which may be cut into several passes, has `eval_batch` pairs.
    """
    batches = batches_of(config)
    bfloat16 = compute_dtype(device, config.dtype) == torch.bfloat16
    deepspeed = deepspeed_config(config, batches.pairs, batches.accumulated, bfloat16=bfloat16)
    # under ZeRO-3 the other kind finds recomputed weights in pieces, and fails (huggingface/trl#2514)
    reentrant = deepspeed is not None and deepspeed["zero_optimization"]["stage"] == 3
    # a launcher may name another type, and accelerate would have it in some passes alone
    if "ACCELERATE_MIXED_PRECISION" in os.environ:
        os.environ["ACCELERATE_MIXED_PRECISION"] = "bf16" if bfloat16 and deepspeed is None else "no"
    args = DPOConfig(
        **{name: getattr(config, name) for name in SAME_IN_TRL},
        # the trainer gets the losses that TRL does not know from its objective
        loss_type=[loss for loss in config.loss_type if loss in TRL_LOSSES],
        loss_weights=config.loss_weights if {*config.loss_type} <= {*TRL_LOSSES} else None,
        output_dir=str(Path(config.output_dir)),
        max_length=None,  # rows are cut already
        remove_unused_columns=False,  # a batch is a list of whole rows
        warmup_steps=warmup_steps,
        max_steps=steps,
        per_device_train_batch_size=batches.pairs,
        gradient_accumulation_steps=batches.accumulated,
        gradient_checkpointing_kwargs={"use_reentrant": reentrant} if config.gradient_checkpointing else None,
        ddp_find_unused_parameters=False,  # every weight of the adapter takes part in every pass
        disable_dropout=config.lora_dropout == 0,
        bf16=bfloat16 and deepspeed is None,
        deepspeed=deepspeed,
        fp16=False,
        use_cpu=device == "cpu",
        dataloader_pin_memory=False,
        data_seed=config.seed,
        logging_nan_inf_filter=False,
        eval_strategy="steps" if evaluates else "no",
        per_device_eval_batch_size=eval_batch or config.per_device_eval_batch_size,
        report_to=config.report_to or "none",
        run_name=config.run_name or Path(config.output_dir).absolute().name,
        **({"project": config.project} if config.project else {}),
        disable_tqdm=True,
    )
    # one GPU per process: with more in sight, transformers would use DataParallel, which TRL refuses
    args._n_gpu = min(args.n_gpu, 1)
    if args.device.type == "cpu":
        # accelerate numbers the CPUs of several processes, and torch 2.11 cannot load a checkpoint to `cpu:0`
        vars(args)["_setup_devices"] = torch.device("cpu")
    return args
