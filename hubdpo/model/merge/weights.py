"""The weights of a base with its adapter added, written a file at a time."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hubdpo import console
from hubdpo.errors import ArtefactError

INDEX = "model.safetensors.index.json"
ADAPTER = "default"


@dataclass(frozen=True)
class Weight:
    """One tensor of the model: made when it is written, because all of them together may not fit into memory."""

    name: str
    shape: tuple[int, ...]
    make: Callable[[], Any]


@dataclass
class Shard:
    weights: list[Weight] = field(default_factory=list)
    bytes: int = 0


@dataclass(frozen=True)
class Plan:
    dtype: str
    shards: list[Shard]

    @property
    def bytes(self) -> int:
        return sum(shard.bytes for shard in self.shards)

    def names(self) -> list[str]:
        """Return the files as transformers names them."""
        count = len(self.shards)
        if count == 1:
            return ["model.safetensors"]
        return [f"model-{number:05d}-of-{count:05d}.safetensors" for number in range(1, count + 1)]


def plan_weights(model: Any, dtype: str, shard_bytes: int) -> Plan:
    """Share the weights of a PEFT model out over files, in the order of the model. Raise ArtefactError for no LoRA."""
    import torch

    _check_plain(model)
    size = torch.empty(0, dtype=getattr(torch, dtype)).element_size()
    shards = [Shard()]
    for weight in _weights(model.get_base_model()):
        taken = size * math.prod(weight.shape)
        if shards[-1].weights and shards[-1].bytes + taken > shard_bytes:
            shards.append(Shard())
        shards[-1].weights.append(weight)
        shards[-1].bytes += taken
    return Plan(dtype, shards)


def write_weights(plan: Plan, folder: Path) -> None:
    """Write the files, and the index where there are several. Raise ArtefactError when a weight is not finite."""
    import torch
    from safetensors.torch import save_file

    index: dict[str, str] = {}
    with console.progress("merging", plan.bytes) as bar:
        for name, shard in zip(plan.names(), plan.shards, strict=True):
            made = {}
            for weight in shard.weights:
                value = weight.make().to(getattr(torch, plan.dtype)).cpu().contiguous()
                if not torch.isfinite(value).all():
                    raise ArtefactError(f"the merged weight is not finite: {weight.name}", hint="--dtype float32")
                made[weight.name] = value
                index[weight.name] = name
            file = folder / name
            file.touch(exist_ok=False)
            rights = file.stat().st_mode  # that the umask leaves; safetensors lets nobody else read what it writes
            save_file(made, file, metadata={"format": "pt"})
            file.chmod(rights)
            bar.advance(bar.task_ids[0], shard.bytes)
    if len(plan.shards) > 1:
        told = {"metadata": {"total_size": plan.bytes}, "weight_map": dict(sorted(index.items()))}
        (folder / INDEX).write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")


def _check_plain(model: Any) -> None:
    config = model.peft_config[ADAPTER]
    odd = [name for name in ("use_dora", "modules_to_save", "lora_bias") if getattr(config, name, None)]
    if str(getattr(config.peft_type, "value", config.peft_type)) != "LORA":
        odd.append(f"peft_type {config.peft_type}")
    if getattr(config, "bias", "none") != "none":
        odd.append(f"bias {config.bias}")
    if odd:
        raise ArtefactError(f"the adapter is not plain LoRA: {', '.join(odd)}", hint="merge it with PEFT itself")


def _weights(base: Any) -> Iterator[Weight]:
    """Give every tensor of the model's own state once: tied weights where they come first."""
    from peft.tuners.lora import LoraLayer

    seen: set[int] = set()
    wrapped = ""
    for path, module in base.named_modules():
        if wrapped and path.startswith(wrapped):
            continue
        is_lora = isinstance(module, LoraLayer)
        wrapped = f"{path}." if is_lora else ""
        own = module.get_base_layer() if is_lora else module
        for name, tensor in [*own.named_parameters(recurse=False), *_buffers(own)]:
            if id(tensor) in seen:
                continue
            seen.add(id(tensor))
            full = f"{path}.{name}" if path else name
            state = getattr(tensor, "quant_state", None)
            shape = tuple(state.shape) if state is not None else tuple(tensor.shape)
            yield Weight(full, shape, _maker(own, module if is_lora and name == "weight" else None, name))


def _buffers(module: Any) -> list[tuple[str, Any]]:
    left_out = module._non_persistent_buffers_set
    return [(name, value) for name, value in module.named_buffers(recurse=False) if name not in left_out]


def _maker(own: Any, lora: Any, name: str) -> Callable[[], Any]:
    """Return what makes a tensor: de-quantised as in every forward pass, and added to in float32, rounded once."""

    def make() -> Any:
        import torch
        from bitsandbytes.functional import dequantize_4bit

        value = getattr(own, name).detach()
        state = getattr(getattr(own, name), "quant_state", None)
        if state is not None:
            value = dequantize_4bit(value, state)
        if lora is None:
            return value
        with torch.no_grad():
            return value.float() + lora.get_delta_weight(ADAPTER).float()

    return make
