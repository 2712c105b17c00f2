"""The adapters of a run: the trained one, and where it started from an adapter, that one as the frozen reference."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager

from peft import LoraConfig, PeftModel, TaskType
from peft.tuners.lora import LoraLayer
from transformers import PreTrainedModel

from hubdpo.config import TrainConfig
from hubdpo.config.objective import uses_reference
from hubdpo.model.adapters.check import check_on_base
from hubdpo.model.adapters.reference import POLICY, add_reference, load_weights
from hubdpo.model.adapters.start import StartAdapter
from hubdpo.training.step.lora import lora_config


def adapter_config(config: TrainConfig, model: PreTrainedModel, start: StartAdapter | None) -> LoraConfig:
    """Return PEFT's configuration of a new adapter, or of the one to `start` from with the dropout of this run."""
    if start is None:
        return lora_config(config, model)
    return LoraConfig(**start.lora, lora_dropout=config.lora_dropout, task_type=TaskType.CAUSAL_LM, bias="none")


def prepare_adapters(model: PeftModel, config: TrainConfig, start: StartAdapter | None) -> None:
    """Make the adapters of a trainer's model ready: their weights, what is saved of them, and quick switches."""
    _to_float32(model)
    if start is not None:
        _go_on_from(model, start, config)
    _save_trained_only(model)
    switch_quickly(model)


def _go_on_from(model: PeftModel, start: StartAdapter, config: TrainConfig) -> None:
    """Give the trained adapter the weights to start from, and the model those as its reference, unless it is the base.

    Both are the stored numbers in float32, so the first pass of each gives the same log-probabilities to the bit.
    """
    check_on_base(start.adapter, [name for name, _ in model.get_base_model().named_modules() if name])
    load_weights(model, start.folder, POLICY)
    if config.reference_adapter == "frozen" and uses_reference(config.loss_type):
        add_reference(model, start.folder)


def _save_trained_only(model: PeftModel) -> None:
    """Keep the reference out of checkpoints and results: PEFT saves every adapter of a model."""
    model.save_pretrained = functools.partial(model.save_pretrained, selected_adapters=[POLICY])
    model.create_or_update_model_card = lambda folder: None  # in each checkpoint


def _to_float32(model: PeftModel) -> None:
    """Keep the trained weights in float32: in bfloat16, steps of 5e-6 round away, and a resumed run would differ."""
    for weight in model.parameters():
        if weight.requires_grad:
            weight.data = weight.data.float()


def switch_quickly(model: PeftModel) -> None:
    """Let `model.disable_adapter()` and `model.set_adapter()` set one attribute on each LoRA layer.

    PEFT's own inspect all modules and weights five times and turn gradients off and on. That takes 0.1 s for a model
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

    def set_adapter(name: str) -> None:
        model.active_adapter = name
        for layer in layers:
            layer._active_adapter = [name]

    model.disable_adapter, model.set_adapter = disable_adapter, set_adapter
