"""Combine several adapters on one base into one, with PEFT's `add_weighted_adapter`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hubdpo.config import MergeConfig
from hubdpo.errors import ArtefactError
from hubdpo.model.adapters.load import attach_another
from hubdpo.model.adapters.reference import POLICY
from hubdpo.model.merge.sources import Source
from hubdpo.model.quiet import without_chatter

if TYPE_CHECKING:
    from peft import PeftModel
    from peft.tuners.lora import LoraLayer

COMBINED = "combined"


def combine(model: PeftModel, sources: Sequence[Source], config: MergeConfig) -> str:
    """Add the other adapters to a model that has the first, combine all of them, and return the active adapter's name.

    DARE drops values at random, by the seed of the config. Raise ArtefactError where PEFT left a layer out.
    """
    if len(sources) == 1:
        return POLICY
    import torch
    from peft.tuners import lora

    names = [POLICY, *(f"adapter_{number}" for number in range(2, len(sources) + 1))]
    for name, source in zip(names[1:], sources[1:], strict=True):
        attach_another(model, source.folder, name)
    for name, source in zip(names, sources, strict=True):
        # PEFT copies the first config: what names its layers alone would leave out those of the others
        settings = model.peft_config[name]
        settings.target_modules = set(source.adapter.modules)
        settings.exclude_modules = None
    torch.manual_seed(config.seed)
    with without_chatter():
        model.add_weighted_adapter(
            names, list(config.weights or ()), COMBINED, combination_type=config.combination_type,
            density=config.density, majority_sign_method=config.majority_sign_method,
        )  # fmt: skip
    model.set_adapter(COMBINED)
    for path, layer in model.named_modules():
        if not isinstance(layer, lora.LoraLayer):
            continue
        if COMBINED not in {*layer.lora_A, *layer.lora_embedding_A}:
            raise ArtefactError(f"PEFT left `{path}` out of the combination", hint="merge the adapters one by one")
        layer.scaling[COMBINED] = 1.0  # the factors have all scales within; rsLoRA would scale them once more
        if config.combination_type == "cat" and COMBINED in layer.lora_A:
            _stack(layer, names, list(config.weights or ()))
    return COMBINED


def _stack(layer: LoraLayer, names: Sequence[str], weights: Sequence[float]) -> None:
    """Stack the factors of a layer in their own type: beside a base in 16 bits, PEFT rounds them to these."""
    import torch

    parts = [
        (layer.lora_A[name].weight.data * (weight * layer.scaling[name]), layer.lora_B[name].weight.data)
        for name, weight in zip(names, weights, strict=True)
        if name in layer.lora_A
    ]
    ranks = sum(len(a) for a, _ in parts)
    a, b = layer.lora_A[COMBINED].weight, layer.lora_B[COMBINED].weight
    # the rank is that of all adapters, also in layers that one of them leaves alone
    empty = a.data.shape[0] - ranks
    a.data = torch.cat([*(a for a, _ in parts), parts[0][0].new_zeros(empty, a.data.shape[1])], dim=0)
    b.data = torch.cat([*(b for _, b in parts), parts[0][1].new_zeros(b.data.shape[0], empty)], dim=1)
