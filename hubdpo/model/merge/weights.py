"""Add an adapter to the weights of its base, and write them to safetensors files one file at a time."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from hubdpo import console
from hubdpo.artefacts.folders.model_files import INDEX, WEIGHTS
from hubdpo.errors import ArtefactError
from hubdpo.model.adapters.reference import POLICY

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from peft.tuners.lora import LoraLayer


@dataclass(frozen=True)
class Weight:
    """A tensor of the merged model. `make` computes it when it is written: all together may not fit into memory."""

    name: str
    shape: tuple[int, ...]
    make: Callable[[], torch.Tensor]

    @property
    def parameters(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True)
class Plan:
    """The weights of each file to write, all in one type."""

    dtype: torch.dtype
    files: list[list[Weight]]

    @property
    def bytes(self) -> int:
        return int(self.dtype.itemsize) * self.parameters

    @property
    def parameters(self) -> int:
        return sum(weight.parameters for weights in self.files for weight in weights)

    @property
    def names(self) -> list[str]:
        """The names of the files, as transformers names them."""
        count = len(self.files)
        several = [f"model-{number:05d}-of-{count:05d}.safetensors" for number in range(1, count + 1)]
        return several if count > 1 else [WEIGHTS]


def plan_weights(model: PeftModel, dtype: str, shard_bytes: int, *, adapter: str = POLICY) -> Plan:
    """Distribute the weights of a plain LoRA model over files of at most `shard_bytes`, or of one larger weight."""
    import torch

    for name in model.peft_config:
        _check_plain(model, name)
    plan, used = Plan(getattr(torch, dtype), [[]]), 0
    for weight in _weights_of(model.get_base_model(), adapter):
        taken = plan.dtype.itemsize * weight.parameters  # bytes in the type that is written, not the base's
        if plan.files[-1] and used + taken > shard_bytes:
            plan.files.append([])
            used = 0
        plan.files[-1].append(weight)
        used += taken
    return plan


def write_weights(plan: Plan, folder: Path) -> None:
    """Write the files, and an index when there are several. Raise ArtefactError when a weight is not finite."""
    import torch
    from safetensors.torch import save_file

    weight_map: dict[str, str] = {}
    with console.progress("merging", plan.bytes) as bar:
        for name, weights in zip(plan.names, plan.files, strict=True):
            tensors = {}
            for weight in weights:
                # one tensor at a time in float32, which is twice its size in the file
                tensor = weight.make().to(plan.dtype).cpu().contiguous()
                if not torch.isfinite(tensor).all():
                    raise ArtefactError(f"the merged weight is not finite: {weight.name}", hint="--dtype float32")
                tensors[weight.name], weight_map[weight.name] = tensor, name
                bar.advance(bar.task_ids[0], plan.dtype.itemsize * weight.parameters)
            file = folder / name
            file.touch(exist_ok=False)
            mode = file.stat().st_mode  # as the umask leaves it; safetensors lets no other user read its files
            save_file(tensors, file, metadata={"format": "pt"})
            file.chmod(mode)
    if len(plan.files) > 1:
        index = {"metadata": {"total_size": plan.bytes}, "weight_map": dict(sorted(weight_map.items()))}
        (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _check_plain(model: PeftModel, adapter: str) -> None:
    config = model.peft_config[adapter]
    odd = [name for name in ("modules_to_save", "lora_bias") if getattr(config, name, None)]
    if str(getattr(config.peft_type, "value", config.peft_type)) != "LORA":
        odd.append(f"peft_type {config.peft_type}")
    if getattr(config, "bias", "none") != "none":
        odd.append(f"bias {config.bias}")
    if odd:
        raise ArtefactError(f"the adapter is not plain LoRA: {', '.join(odd)}", hint="merge it with PEFT itself")


def _weights_of(base: torch.nn.Module, adapter: str) -> Iterator[Weight]:
    """Yield every tensor of the state of a base that PEFT wrapped, under its name before that.

    PEFT puts a LoraLayer, with the base's layer and the adapter's matrices inside, in the place of each adapted layer.
    Tied weights are one tensor under several names: they are yielded once, under the first.
    """
    from peft.tuners.lora import LoraLayer

    seen: set[int] = set()
    inside = ""  # prefix of the modules inside the last LoraLayer, which come right after it
    for path, module in base.named_modules():
        if inside and path.startswith(inside):
            continue
        lora = module if isinstance(module, LoraLayer) else None
        inside = f"{path}." if lora is not None else ""
        layer = lora.get_base_layer() if lora is not None else module
        # parameters, and the buffers that a state dict holds
        passing = layer._non_persistent_buffers_set
        buffers = [(name, buffer) for name, buffer in layer.named_buffers(recurse=False) if name not in passing]
        for name, tensor in [*layer.named_parameters(recurse=False), *buffers]:
            if id(tensor) in seen:  # tied: transformers ties it again when it loads the model
                continue
            seen.add(id(tensor))
            # NF4 packs two values into a byte, as (values / 2, 1): only `quant_state` knows the shape of the matrix
            quant_state = getattr(tensor, "quant_state", None)
            shape = tuple(tensor.shape if quant_state is None else quant_state.shape)
            if name == "weight" and _is_turned(layer):
                shape = shape[::-1]
            yield Weight(f"{path}.{name}" if path else name, shape, partial(_merged, layer, name, lora, adapter))


def _is_turned(layer: torch.nn.Module) -> bool:
    """Tell whether transformers turned a weight when it quantised it: GPT-2 stores [in, out]."""
    from transformers.pytorch_utils import Conv1D

    return issubclass(getattr(layer, "source_cls", object), Conv1D)


def _merged(layer: torch.nn.Module, name: str, lora: LoraLayer | None, adapter: str) -> torch.Tensor:
    """Return a merged tensor: W + (alpha / r) B A for a layer's weight, else W.

    DoRA scales each row of that sum to the length that it trained (Liu et al. 2024, arXiv 2402.09353, equation 5). W is
    de-quantised as in every forward pass of the training. The sum is computed in float32, so that the only rounding is
    that of writing: in 16 bits, adding would round away what is small beside W.
    """
    import torch
    from bitsandbytes.functional import dequantize_4bit

    weight = getattr(layer, name)
    quant_state, merged = getattr(weight, "quant_state", None), weight.detach()
    if quant_state is not None:
        merged = dequantize_4bit(merged, quant_state)
    if lora is not None and name == "weight":
        with torch.no_grad():
            merged = merged.float() + lora.get_delta_weight(adapter).float()
            if adapter in lora.lora_magnitude_vector:
                inputs = 0 if getattr(lora, "fan_in_fan_out", False) else 1  # GPT-2 stores [in, out]
                lengths = lora.lora_magnitude_vector[adapter].weight.float().unsqueeze(inputs)
                merged *= lengths / merged.norm(dim=inputs, keepdim=True)
    return merged.T if name == "weight" and _is_turned(layer) else merged
