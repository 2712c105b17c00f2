"""Name the layers that `all-linear` adapts, so that PEFT and every reader of the adapter find the same ones."""

from __future__ import annotations

import torch
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from hubdpo.model.bases.tensors import EXPERTS, is_adapted_beside_experts


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
    if has_experts(model):
        chosen = {name for name in chosen if is_adapted_beside_experts(name)}
    taken = {end for name in modules.keys() - chosen for end in _ends(name)}
    return sorted({next((end for end in _ends(name) if end not in taken), name) for name in chosen})


def has_experts(model: PreTrainedModel) -> bool:
    """Tell whether the model is a mixture of experts."""
    return any(EXPERTS.search(name) for name, _ in model.named_parameters())


def _ends(name: str) -> list[str]:
    """Return what PEFT finds a module by, shortest first: `c`, `b.c`, `a.b.c`."""
    parts = name.split(".")
    return [".".join(parts[-count:]) for count in range(1, len(parts) + 1)]
