"""Qwen2 models of random weights in the shapes of published ones, and trainers on them, without any download."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import bitsandbytes
import torch
from transformers import AutoTokenizer, BitsAndBytesConfig, Qwen2Config, Qwen2ForCausalLM
from transformers.models.qwen2.modeling_qwen2 import Qwen2RotaryEmbedding
from transformers.quantizers.auto import AutoHfQuantizer
from transformers.utils.quantization_config import QuantizationMethod

from hubdpo.config import TrainConfig
from hubdpo.data.encoded.rows import TokenRows
from hubdpo.demo.tiny_base import make_tiny_base
from hubdpo.model.device import compute_dtype
from hubdpo.training.step.trainer import SharedPrefixDPOTrainer, make_trainer
from tests.benchmarks import pair_data

STANDARD_DEVIATION = 0.02
"""Of random weights, as transformers initialises Qwen2."""

WORDS = ("How", "do", "I", "learn", "it", "best", "Take", "your", "time", "and", "tell", "me", "what", "comes", "first")
"""Words that the demo's tokenizer knows."""


class Shape(NamedTuple):
    hidden: int
    layers: int
    heads: int
    key_heads: int
    inner: int
    vocabulary: int
    tied: bool

    @property
    def linear_weights(self) -> int:
        """Weights of the projections, which every token meets once in a forward pass."""
        of_layer = 2 * self.hidden * self.hidden + 2 * self.hidden * self.key_heads * self.hidden // self.heads
        return self.layers * (of_layer + 3 * self.hidden * self.inner)


SHAPES = {
    "Qwen2-7B": Shape(3584, 28, 28, 4, 18944, 152064, False),
    "Qwen2-0.5B": Shape(896, 24, 14, 2, 4864, 151936, True),
    "tiny, untied": Shape(128, 3, 4, 2, 256, 1024, False),
    "tiny": Shape(128, 2, 4, 2, 256, 512, True),
}


def qwen2_config(shape: Shape) -> Qwen2Config:
    return Qwen2Config(
        vocab_size=shape.vocabulary, hidden_size=shape.hidden, intermediate_size=shape.inner,
        num_hidden_layers=shape.layers, num_attention_heads=shape.heads, num_key_value_heads=shape.key_heads,
        tie_word_embeddings=shape.tied, max_position_embeddings=32768, rope_theta=1e6, bos_token_id=None,
        eos_token_id=1, pad_token_id=0,
    )  # fmt: skip


def write_base(folder: Path, shape: Shape, device: str) -> Path:
    """Write a base of random bfloat16 weights with the tokenizer and template of the demo's base."""
    make_tiny_base(folder)
    for stale in folder.glob("model*.safetensors*"):
        stale.unlink()
    config, tokens = qwen2_config(shape), json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config.eos_token_id, config.pad_token_id = tokens["eos_token_id"], tokens["pad_token_id"]
    config.dtype = torch.bfloat16
    with torch.device("meta"):
        model = Qwen2ForCausalLM(config).to(torch.bfloat16)
    model = model.to_empty(device=device)
    torch.manual_seed(0)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            _ = weight.fill_(1) if "norm" in name else weight.normal_(0, STANDARD_DEVIATION)
    model.save_pretrained(folder, max_shard_size="4GB")
    return folder


def random_nf4(shape: Shape, device: str) -> Qwen2ForCausalLM:
    """Return a Qwen2 of random weights, quantised as `hubdpo.model.bases.load.load_base` does, without any file.

    A 7B model takes seconds this way: each layer is drawn on the device and quantised there.
    """
    config, dtype = qwen2_config(shape), compute_dtype(device)
    config._attn_implementation, config.dtype = "sdpa", dtype
    with torch.device("meta"):
        model = Qwen2ForCausalLM(config).to(dtype)
    nf4: dict[str, Any] = {"compress_statistics": True, "quant_type": "nf4", "quant_storage": dtype}
    for name, module in list(model.named_modules()):
        if type(module) is not torch.nn.Linear or name == "lm_head":
            continue
        has_bias = module.bias is not None
        made = bitsandbytes.nn.Linear4bit(
            module.in_features, module.out_features, has_bias, compute_dtype=dtype, device="meta", **nf4
        )
        weight = torch.randn(module.out_features, module.in_features, device=device, dtype=dtype) * STANDARD_DEVIATION
        made.weight = bitsandbytes.nn.Params4bit(weight, requires_grad=False, module=made, **nf4).to(device)
        if has_bias:
            made.bias = torch.nn.Parameter(torch.zeros(module.out_features, device=device, dtype=dtype))
        _replace(model, name, made)
    for name, weight in list(model.named_parameters()):
        if weight.is_meta:
            drawn = torch.ones(weight.shape, device=device, dtype=dtype)
            if "norm" not in name:
                drawn.normal_(0, STANDARD_DEVIATION)
            _replace(model, name, torch.nn.Parameter(drawn, requires_grad=False))
    model.model.rotary_emb = Qwen2RotaryEmbedding(config).to(device)
    if config.tie_word_embeddings:
        model.tie_weights()
    # what PEFT, accelerate and the trainer ask of a model that transformers has quantised
    quantised = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype,
        bnb_4bit_quant_storage=dtype,
    )  # fmt: skip
    model.is_loaded_in_4bit = model.is_quantized = True
    model.quantization_method = QuantizationMethod.BITS_AND_BYTES
    model.hf_quantizer = AutoHfQuantizer.from_config(quantised, pre_quantized=False)
    model.config.quantization_config = quantised
    model.hf_device_map = {"": 0 if device == "cuda" else "cpu"}
    return model


def _replace(model: torch.nn.Module, name: str, value: torch.nn.Module | torch.nn.Parameter) -> None:
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, value)


def trainer_on(
    model: torch.nn.Module, scratch: Path, data: Sequence[Mapping[str, object]], device: str, **options: object
) -> tuple[TrainConfig, SharedPrefixDPOTrainer]:
    """Return hubdpo's trainer ready for a step: under autocast as in training, and with an adapter that does something.

    A new adapter has lora_B = 0, with which every loss is ln 2 and half of the gradients are 0.
    """
    config = TrainConfig.build({"model_name_or_path": "x/y", "dataset": "x", "output_dir": scratch / "run", **options})
    tokenizer = AutoTokenizer.from_pretrained(make_tiny_base(scratch / "tokenizer"))
    trainer = make_trainer(config, model, tokenizer, TokenRows.of(data), None, device=device, steps=1, callbacks=[])
    draw = torch.Generator().manual_seed(0)
    for name, weight in trainer.model.named_parameters():
        if "lora_B" in name:
            weight.data = (torch.randn(weight.shape, generator=draw) * 0.01).to(weight.device)
    trainer.model_wrapped = trainer.accelerator.prepare_model(trainer.model)
    if config.gradient_checkpointing:
        trainer.model.gradient_checkpointing_enable({"use_reentrant": False})
    trainer.model.train()
    return config, trainer


def hh_rows(pairs: int, *, most: int | None = None) -> list[dict[str, list[int]]]:
    """Return pairs with the lengths of HH-RLHF, each text cut to `most` tokens, in ids of the smallest vocabulary."""
    rows = pair_data.rows("HH-RLHF-like", pairs)
    return [{name: [i % 400 + 10 for i in ids[:most]] for name, ids in row.items()} for row in rows]


def raw_pairs(path: Path, pairs: int, *, most: int | None, of_prompt: int = 1) -> None:
    """Write chats of these lengths, of which `of_prompt` have the same prompt and chosen answer."""

    def message(role: str, text: str, ids: list[int]) -> list[dict[str, str]]:
        return [{"role": role, "content": " ".join([text, *(WORDS[i % len(WORDS)] for i in ids[::2])])}]

    with path.open("w", encoding="utf-8") as stream:
        for index, row in enumerate(hh_rows(pairs // of_prompt, most=most)):
            prompt, chosen = message("user", f"{index}", row["prompt_ids"]), f"{index}"
            for other in range(of_prompt):
                pair = {
                    "prompt": prompt, "chosen": message("assistant", chosen, row["chosen_ids"]),
                    "rejected": message("assistant", f"{index} {other}" if other else chosen, row["rejected_ids"]),
                }  # fmt: skip
                stream.write(json.dumps(pair) + "\n")


@contextlib.contextmanager
def adapter_in(model: torch.nn.Module, dtype: torch.dtype):  # noqa: ANN201
    """Keep the adapter in another type within the body: TRL's is bfloat16 on a quantised base, hubdpo's float32."""
    kept = [(weight, weight.data) for weight in model.parameters() if weight.requires_grad]
    for weight, data in kept:
        weight.grad, weight.data = None, data.to(dtype)
    try:
        yield
    finally:
        for weight, data in kept:
            weight.grad, weight.data = None, data
