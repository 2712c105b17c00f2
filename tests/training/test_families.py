"""Every family gives stock TRL's losses and gradients in the packed forward pass, or is trained by the stock one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from families import PACKED, tiny
from test_shared_prefix import Prepared, one_step, pairs
from test_token_budget import config_for
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, PreTrainedModel
from trl import DPOConfig

from hubdpo.training.step.lora import lora_config
from hubdpo.training.step.shared_prefix import SharedPrefix
from tests.near import assert_same_step


@pytest.fixture(scope="module")
def tokenizer(tiny_base: Path) -> Any:
    return AutoTokenizer.from_pretrained(tiny_base)


def stock_trainer(model: PreTrainedModel, tokenizer: Any, out: Path) -> Prepared:
    """Return TRL's trainer with a random adapter on all linear layers."""
    trainer = Prepared(
        model=model,
        args=DPOConfig(
            output_dir=str(out), report_to=[], bf16=False, max_length=None, use_cpu=True, gradient_checkpointing=False
        ),
        train_dataset=pairs("equal", 1),
        processing_class=tokenizer,
        peft_config=lora_config(config_for(out, lora_r=4, lora_alpha=8, lora_target_modules=["all-linear"]), model),
    )
    draw = torch.Generator().manual_seed(1)
    for name, weight in trainer.model.named_parameters():
        if "lora_" in name:
            weight.data = torch.randn(weight.shape, generator=draw) * 0.05
    return trainer


def step_of(trainer: Prepared, shape: str, count: int, *, checkpointing: bool = False) -> Any:
    trainer.train_dataset, trainer._train_batch_size = pairs(shape, count), count
    if checkpointing:
        trainer.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    loss, metrics, gradients = one_step(trainer)
    metrics.pop("num_tokens")  # counts all tokens since the start
    trainer.model.gradient_checkpointing_disable()
    return loss, metrics, gradients


def assert_packed_like_stock(trainer: Prepared, cases: list[dict[str, Any]]) -> None:
    expected = [step_of(trainer, **case) for case in cases]
    shared = SharedPrefix(trainer.model.get_base_model())
    for case, stock in zip(cases, expected, strict=True):
        with shared.packed():
            assert_same_step(step_of(trainer, **case), stock)
    assert shared.packed_tokens < shared.padded_tokens


@pytest.mark.parametrize("family", PACKED)
def test_a_family_gives_what_stock_trl_gives(family: str, tokenizer: Any, tmp_path: Path) -> None:
    kind, options = PACKED[family]
    if not hasattr(transformers, kind):
        pytest.skip(f"this transformers has no {kind}")
    model = tiny(kind, options)
    model.save_pretrained(tmp_path / "base")
    plain = [
        {"shape": "skewed", "count": 5},
        {"shape": "long prompts", "count": 4, "checkpointing": True},
        {"shape": "short prompts", "count": 3},
    ]
    assert_packed_like_stock(stock_trainer(model, tokenizer, tmp_path), plain)
    nf4 = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype=torch.float32, quantization_config=nf4)
    trainer = stock_trainer(model, tokenizer, tmp_path)
    assert_packed_like_stock(trainer, [{"shape": "skewed", "count": 4, "checkpointing": True}])
