"""Adapters as other tools leave them: PEFT's files, with weights that are not zero, and what those tools add."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

ADAPTER, CONFIG = "adapter_model.safetensors", "adapter_config.json"


def sft_adapter(base: Path, folder: Path, *, dtype: torch.dtype = torch.float32, **options: Any) -> Path:
    """Write an adapter of a base, as `save_pretrained` does after supervised fine-tuning."""
    chosen = {"r": 4, "lora_alpha": 7, "target_modules": ["q_proj", "v_proj", "down_proj"], "lora_dropout": 0.05}
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32),
        LoraConfig(**{**chosen, "task_type": "CAUSAL_LM", **options}),
    )
    draw = torch.Generator().manual_seed(1)
    for name, weight in model.named_parameters():
        if "magnitude" in name:
            weight.data = weight.data * 1.1
        elif "lora_" in name:
            weight.data = torch.randn(weight.shape, generator=draw) * 0.05
    model.save_pretrained(folder, save_embedding_layers=False)
    weights = load_file(folder / ADAPTER)
    save_file({name: weight.to(dtype) for name, weight in weights.items()}, folder / ADAPTER, {"format": "pt"})
    (folder / "README.md").unlink()  # it names a folder, which the Hub refuses
    (folder / "training_args.bin").write_bytes(b"a pickle that nobody may open")
    return folder


def change(folder: Path, *, file: str = CONFIG, **keys: Any) -> Path:
    """Change keys of a config, an adapter's by default."""
    config = json.loads((folder / file).read_text()) | keys
    (folder / file).write_text(json.dumps(config))
    return folder
