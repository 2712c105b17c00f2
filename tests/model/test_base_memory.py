"""What a base takes in memory, worked out from its files, beside what it takes when it is loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from hubdpo.artefacts.manifests.base_memory import BaseMemory
from hubdpo.hub.snapshot import FolderSnapshot
from hubdpo.model.bases.files import weight_shapes
from hubdpo.model.bases.find import find_base
from hubdpo.model.bases.load import load_base
from hubdpo.model.bases.tensors import BaseFacts, cache_values
from tests.training.families import OWN_WAY, PACKED, tiny

FAMILIES = PACKED | {name: case[:2] for name, case in OWN_WAY.items()}
TOKENS = 40
"""More than the windows of the families hold."""
UNKNOWN = {
    "qwen2 with windows", "mistral", "ministral", "gemma2", "gemma3_text", "gemma4_text", "olmo3", "cohere2",
    "starcoder2", "exaone4", "mixtral", "gpt_oss", "deepseek_v3", "lfm2", "qwen3_5_text", "recurrent_gemma", "mamba",
    "phi3", "phi3 longrope", "gpt2", "bloom",
}  # fmt: skip
"""Families with windows, with other states than keys and values, or with one projection for both."""


@pytest.mark.parametrize("name", FAMILIES)
def test_the_cache_grows_by_what_the_headers_say(name: str, tmp_path: Path) -> None:
    model = tiny(*FAMILIES[name]).eval()
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    told = cache_values(config, weight_shapes(FolderSnapshot(tmp_path)))
    assert (told is None) == (name in UNKNOWN)
    if told is not None:
        with torch.no_grad():
            cache = model(input_ids=torch.arange(3, 3 + TOKENS)[None], use_cache=True).past_key_values
        assert sum(layer.keys.numel() + layer.values.numel() for layer in cache.layers) == told * TOKENS


def test_nf4_has_the_layers_that_count_as_linear(tiny_base: Path) -> None:
    memory = find_base(str(tiny_base)).ref.memory
    assert memory is not None
    model = load_base(tiny_base, device="cpu", load_in_4bit=True)
    packed = sum(w.numel() * w.element_size() for w in model.parameters() if type(w).__name__ == "Params4bit")
    others = sum(w.numel() for w in model.parameters() if type(w).__name__ != "Params4bit")
    assert (2 * packed, others) == (memory.linear_values, memory.other_values)


def test_bytes_are_those_of_the_types() -> None:
    memory = BaseMemory(linear_values=64 * 256, other_values=10)
    assert memory.in_16_bits == 2 * (64 * 256 + 10)
    # half a byte a value, a byte for 64 values, four for 256 of these bytes
    assert memory.in_nf4 == 64 * 128 + 256 + 4 + 2 * 10


@pytest.mark.parametrize(
    ("changes", "known"),
    [
        ({}, True),
        ({"sliding_window": 4096, "use_sliding_window": False}, True),
        ({"sliding_window": None}, True),
        ({"sliding_window": 4096}, False),
        ({"sliding_window": 4096, "layer_types": ["full_attention", "full_attention"]}, True),
        ({"layer_types": ["full_attention", "sliding_attention"]}, False),
        ({"num_kv_shared_layers": 1}, False),
        ({"attention_chunk_size": 8192}, False),
        ({"num_hidden_layers": 3}, False),
        ({"text_config": {"sliding_window": 4096}}, False),
        ({"layer_types": "full_attention"}, True),
    ],
    ids=str,
)
def test_a_cache_that_does_not_keep_all_tokens_is_not_known(changes: dict[str, Any], known: bool) -> None:
    shapes = {f"model.layers.{i}.self_attn.{name}_proj.weight": (8, 16) for i in (0, 1) for name in "kv"}
    found = cache_values({"num_hidden_layers": 2, **changes}, shapes)
    assert found == (32 if known else None)


def test_weights_that_are_stored_in_4_bits_are_not_counted() -> None:
    shapes = {"model.layers.0.mlp.up_proj.weight": (128, 1), "model.embed_tokens.weight": (8, 4)}
    assert BaseFacts.of("b", {"num_hidden_layers": 1}, shapes).memory is not None
    assert BaseFacts.of("b", {"quantization_config": {"load_in_4bit": True}}, shapes).memory is None
