"""The adapters of a run: the trained one, and where it started from an adapter, that one as the frozen reference."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from peft import LoraConfig, PeftModel, TaskType
from peft.tuners.lora import LoraLayer
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from hubdpo import console
from hubdpo.config import TrainConfig
from hubdpo.config.objective import uses_reference
from hubdpo.config.train_groups import ALL_LINEAR
from hubdpo.model.adapters.check import check_on_base
from hubdpo.model.adapters.reference import POLICY, add_reference, load_weights
from hubdpo.model.adapters.start import StartAdapter
from hubdpo.model.bases.tensors import EXPERTS, is_adapted_beside_experts


def adapter_config(config: TrainConfig, model: PreTrainedModel, start: StartAdapter | None) -> LoraConfig:
    """Return PEFT's configuration of a new adapter, or of the one to `start` from with the dropout of this run.

    The target modules are named and sorted. PEFT would write a set, whose order changes from run to run, and for
    `all-linear` each layer of each block.
    """
    names, options = config.lora_target_modules, start.lora if start is not None else {}
    if start is None:
        if names == [ALL_LINEAR]:
            names = all_linear(model)
            if _has_experts(model):
                console.info(f"experts   stay as they are; the adapter is on {', '.join(names)}")
        options = {
            "r": config.lora_r,
            "lora_alpha": config.lora_alpha,
            "target_modules": sorted(set(names)),
            "fan_in_fan_out": any(isinstance(part, Conv1D) for part in model.modules()),  # GPT-2 stores [in, out]
            "use_rslora": config.use_rslora,
            "use_dora": config.use_dora,
            "layers_to_transform": config.layers_to_transform,
            "init_lora_weights": config.init_lora_weights == "default" or config.init_lora_weights,
        }
    return LoraConfig(**options, lora_dropout=config.lora_dropout, task_type=TaskType.CAUSAL_LM, bias="none")


def all_linear(model: PreTrainedModel) -> list[str]:
    """Return the names of all linear layers but the output head, each as short as PEFT can tell it from the rest.

    A mixture of experts keeps its routers and its experts: the latter are one parameter of three dimensions a layer.
    """
    modules, head = dict(model.named_modules()), model.get_output_embeddings()
    chosen = {
        name for name, part in modules.items() if isinstance(part, (torch.nn.Linear, Conv1D)) and part is not head
    }
    # the kernels of a Mamba mixer read these weights themselves, so PEFT refuses an adapter there
    chosen -= {name for name in chosen if name.endswith(".out_proj") and f"{name[:-9]}.conv1d" in modules}
    if _has_experts(model):
        chosen = {name for name in chosen if is_adapted_beside_experts(name)}
    taken = {end for name in modules.keys() - chosen for end in _ends(name)}
    return sorted({next((end for end in _ends(name) if end not in taken), name) for name in chosen})


def _has_experts(model: PreTrainedModel) -> bool:
    return any(EXPERTS.search(name) for name, _ in model.named_parameters())


def _ends(name: str) -> list[str]:
    """Return what PEFT finds a module by, shortest first: `c`, `b.c`, `a.b.c`."""
    parts = name.split(".")
    return [".".join(parts[-count:]) for count in range(1, len(parts) + 1)]


def prepare_adapters(model: PeftModel, config: TrainConfig, start: StartAdapter | None) -> None:
    """Make the adapters of a trainer's model ready: their weights, what is saved of them, and quick switches.

    An adapter to start from, and the same one as the frozen reference, are the stored numbers in float32, so the first
    pass of each gives the same log-probabilities to the bit.
    """
    for weight in model.parameters():
        if weight.requires_grad:  # in bfloat16, steps of 5e-6 round away, and a resumed run would differ
            weight.data = weight.data.float()
    if start is not None:
        check_on_base(start.adapter, [name for name, _ in model.get_base_model().named_modules() if name])
        load_weights(model, start.folder, POLICY)
        if config.reference_adapter == "frozen" and uses_reference(config.loss_type):
            add_reference(model, start.folder)
    # PEFT saves every adapter of a model, and a card in each checkpoint
    model.save_pretrained = functools.partial(model.save_pretrained, selected_adapters=[POLICY])
    model.create_or_update_model_card = lambda folder: None
    switch_quickly(model)


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
