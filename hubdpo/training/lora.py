"""The LoRA adapter: its configuration, and the type of its weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from peft import LoraConfig, PeftModel, TaskType
from peft.tuners.lora import LoraLayer
from transformers import PreTrainedModel

from hubdpo.config import TrainConfig
from hubdpo.config.train import ALL_LINEAR


def lora_config(config: TrainConfig, model: PreTrainedModel) -> LoraConfig:
    """Return PEFT's configuration, with the target modules named and sorted.

    PEFT would write a set, whose order changes from run to run, and for `all-linear` each layer of each block.
    """
    names, head = config.lora_target_modules, model.get_output_embeddings()
    if names == [ALL_LINEAR]:
        linear = {name: part for name, part in model.named_modules() if isinstance(part, torch.nn.Linear)}
        names = [name.rpartition(".")[2] for name, part in linear.items() if part is not head]
    return LoraConfig(
        r=config.lora_r,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        target_modules=sorted(set(names)),
        task_type=TaskType.CAUSAL_LM,
        bias="none",
    )


def adapter_to_float32(model: PeftModel) -> None:
    """Keep the trained weights in float32: in bfloat16, steps of 5e-6 round away, and a resumed run would differ."""
    for weight in model.parameters():
        if weight.requires_grad:
            weight.data = weight.data.float()


def switch_quickly(model: PeftModel) -> None:
    """Let `model.disable_adapter()` set one flag on each LoRA layer.

    PEFT's own inspects all modules and weights five times and turns gradients off and on. That takes 0.1 s for a model
    of 28 layers, before and after each pass of the reference, while a GPU waits.
    """
    layers = [part for part in model.modules() if isinstance(part, LoraLayer)]

    @contextmanager
    def disable_adapter() -> Iterator[None]:
        before = [layer._disable_adapters for layer in layers]
        for layer in layers:
            layer._disable_adapters = True
        try:
            yield
        finally:
            for layer, disabled in zip(layers, before, strict=True):
                layer._disable_adapters = disabled

    model.disable_adapter = disable_adapter
