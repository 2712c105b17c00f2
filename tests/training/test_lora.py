"""The adapters of a run: what `disable_adapter()` and `set_adapter()` do to them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

from hubdpo.training.step.adapters import switch_quickly

IDS = torch.tensor([[5, 6, 7, 8]])


@pytest.fixture
def model(tiny_base: Path) -> PeftModel:
    base = AutoModelForCausalLM.from_pretrained(tiny_base, dtype=torch.float32)
    adapted = get_peft_model(base, LoraConfig(r=4, target_modules=["q_proj", "down_proj"], init_lora_weights=False))
    return adapted.eval()


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=IDS).logits


def test_the_quick_switch_gives_what_pefts_own_gives(model: PeftModel) -> None:
    with model.disable_adapter():
        expected = logits(model)
    adapted = logits(model)
    switch_quickly(model)
    with model.disable_adapter():
        assert torch.equal(logits(model), expected)
    assert torch.equal(logits(model), adapted)
    assert not torch.equal(adapted, expected)


def test_the_quick_switch_leaves_gradients_on_and_comes_back_after_an_error(model: PeftModel) -> None:
    adapted = logits(model)
    switch_quickly(model)
    with pytest.raises(ZeroDivisionError), model.disable_adapter():
        assert all(weight.requires_grad for name, weight in model.named_parameters() if "lora_" in name)
        raise ZeroDivisionError
    assert torch.equal(logits(model), adapted)


def test_an_adapter_that_was_disabled_stays_disabled(model: PeftModel) -> None:
    switch_quickly(model)
    with model.disable_adapter():
        with model.disable_adapter():
            pass
        inner = logits(model)
        assert torch.equal(inner, logits(model))
    assert not torch.equal(logits(model), inner)


def test_the_quick_switch_to_another_adapter_leaves_gradients_as_they_are(model: PeftModel) -> None:
    model.add_adapter("ref", LoraConfig(r=4, target_modules=["q_proj", "down_proj"], init_lora_weights=False))
    adapted, gradients = logits(model), [weight.requires_grad for weight in model.parameters()]
    model.set_adapter("ref")
    expected = logits(model)
    model.set_adapter("default")
    switch_quickly(model)
    model.set_adapter("ref")
    assert model.active_adapter == "ref"
    assert torch.equal(logits(model), expected)
    model.set_adapter("default")
    assert torch.equal(logits(model), adapted)
    assert not torch.equal(adapted, expected)
    assert [weight.requires_grad for weight in model.parameters()] == gradients
