"""Load a base model from its files, quantised in one way for training, evaluation and loading back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hubdpo.errors import UnsupportedBase
from hubdpo.hub.client import called
from hubdpo.model.device import compute_dtype
from hubdpo.model.pretrained import read_causal_lm

TOKENIZER_FILES = [
    "tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json", "merges.txt", "added_tokens.json",
    "special_tokens_map.json", "chat_template.jinja", "additional_chat_templates/*.jinja",
]  # fmt: skip
BASE_PATTERNS = ["*.json", "*.safetensors", "*.jinja", "merges.txt", "README.md", "LICENSE*", "NOTICE*"]
"""What is downloaded of a base: never a pickle, never code."""
ADAPTER_PATTERNS = [
    *TOKENIZER_FILES, "adapter_config.json", "adapter_model.safetensors", "run.json", "probes.json", "config.json",
    "generation_config.json", "vocab.txt", "spiece.model", "chat_template.json",
]  # fmt: skip
"""What is downloaded of an adapter to load it: whatever else its repo holds stays there."""


def load_base(folder: Path, *, device: str, load_in_4bit: bool, device_map: Any = None) -> Any:
    """Load the base: NF4 with double quantisation (QLoRA, arXiv 2305.14314), or plain.

    Computes in bfloat16 where the device has it (float16 gave NaN in DPO), else in float32. No pickle is ever opened.
    Raise UnsupportedBase when the files lack weights, which transformers would make up at random.
    """
    import torch
    from transformers import BitsAndBytesConfig

    dtype = compute_dtype(device)
    quantised = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
        # FSDP shards the quantised weights only when they are stored in the compute type
        bnb_4bit_quant_storage=dtype,
    )
    model, loading = read_causal_lm(
        folder,
        dtype=dtype,
        quantization_config=quantised if load_in_4bit else None,
        device_map=device_map or ({"": torch.cuda.current_device()} if device == "cuda" else None),
    )
    if missing := sorted(loading["missing_keys"]):
        raise UnsupportedBase(
            f"the weights of `{called(folder)}` lack {len(missing)} tensors of the model, `{missing[0]}` first",
            hint="fetch config.json and the weights again",
        )
    _keep_weights_as_they_are(model)
    return model


def _keep_weights_as_they_are(model: Any) -> None:
    """Forbid bitsandbytes to repack 4-bit weights for CPUs with AVX512-BF16.

    It does so at the first forward in evaluation mode, and training after that would run, and fail in, a kernel that is
    for inference only (bitsandbytes/nn/modules.py, `Linear4bit.forward`).
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
