"""What is made of the base: its tokenizer, the adapter's shape, the device that both are on."""

from __future__ import annotations

from typing import Any

import torch
from peft import LoraConfig, TaskType

from hubdpo.config import TrainConfig
from hubdpo.config.train import ALL_LINEAR


def lora_config(config: TrainConfig, model: Any) -> LoraConfig:
    """Name the projections one by one and in order: a set's order would change the file from run to run.

    `all-linear` becomes the names that all layers share; PEFT itself would write out each layer of each block.
    """
    return LoraConfig(
        r=config.lora_r,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        target_modules=sorted(set(_targets(config.lora_target_modules, model))),
        task_type=TaskType.CAUSAL_LM,
        bias="none",
    )


def _targets(asked: list[str], model: Any) -> list[str]:
    if asked != [ALL_LINEAR]:
        return asked
    head = model.get_output_embeddings()
    linear = [name for name, part in model.named_modules() if isinstance(part, torch.nn.Linear) and part is not head]
    return [name.rpartition(".")[2] for name in linear]


def adapter_to_float32(model: Any) -> None:
    """Keep the trained weights in float32: in bfloat16 steps of 5e-6 round away, and a resumed run would differ."""
    for weight in model.parameters():
        if weight.requires_grad:
            weight.data = weight.data.float()
