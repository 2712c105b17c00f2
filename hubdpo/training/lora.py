"""The LoRA adapter: its configuration, and the type of its weights."""

from __future__ import annotations

import torch
from peft import LoraConfig, PeftModel, TaskType
from transformers import PreTrainedModel

from hubdpo.config import TrainConfig
from hubdpo.config.train import ALL_LINEAR


def lora_config(config: TrainConfig, model: PreTrainedModel) -> LoraConfig:
    """Return PEFT's configuration, with the target modules named and sorted.

    PEFT would write a set, whose order changes from run to run, and for `all-linear` each layer of each block.
    """
    return LoraConfig(
        r=config.lora_r,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        target_modules=sorted(set(_target_modules(config.lora_target_modules, model))),
        task_type=TaskType.CAUSAL_LM,
        bias="none",
    )


def _target_modules(names: list[str], model: PreTrainedModel) -> list[str]:
    if names != [ALL_LINEAR]:
        return names
    head = model.get_output_embeddings()
    linear = [name for name, part in model.named_modules() if isinstance(part, torch.nn.Linear) and part is not head]
    return [name.rpartition(".")[2] for name in linear]


def adapter_to_float32(model: PeftModel) -> None:
    """Keep the trained weights in float32: in bfloat16, steps of 5e-6 round away, and a resumed run would differ."""
    for weight in model.parameters():
        if weight.requires_grad:
            weight.data = weight.data.float()
