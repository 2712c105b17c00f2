"""The fused forward of a LoRA layer gives PEFT's outputs and gradients, and PEFT's own forward runs where it must."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from bitsandbytes.nn import Linear4bit, Params4bit
from peft import LoraConfig, PeftModel, get_peft_model
from torch.utils.checkpoint import checkpoint

from hubdpo.model.memory import kept_bytes
from hubdpo.training.step.lora import FusedLora, _LoraLinear
from tests.near import assert_near, assert_same_step
from tests.training.test_token_budget import step, trainer_for

IN, OUT, RANK = 160, 128, 8
"""320 blocks of NF4, whose maxima are two blocks of their own."""
Results = dict[str, torch.Tensor]


class Model(torch.nn.Module):
    def __init__(self, *, nf4: bool, bias: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = torch.nn.Linear(IN, OUT, bias=bias)
        self.is_loaded_in_4bit = nf4  # PEFT asks for it
        if nf4:
            quantised = Linear4bit(IN, OUT, bias=bias, quant_type="nf4", compute_dtype=torch.float32)
            quantised.weight = Params4bit(self.linear.weight.data, requires_grad=False, quant_type="nf4")
            quantised.bias = self.linear.bias
            quantised.support_avx512bf16_for_cpu = False  # as load_base does
            self.linear = quantised.to("cpu")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x)


def lora(*, nf4: bool = False, bias: bool = True, adapters: int = 1, **options: Any) -> tuple[PeftModel, FusedLora]:
    """Return a layer with adapters that are not zero, all of them active, ready to train."""
    config = LoraConfig(r=RANK, lora_alpha=12, target_modules=["linear"], **options)
    model = get_peft_model(Model(nf4=nf4, bias=bias), config)
    fused = FusedLora(model)
    for index in range(1, adapters):
        model.add_adapter(f"number {index}", config)
    model.base_model.set_adapter(list(model.peft_config))
    draw = torch.Generator().manual_seed(1)
    for name, weight in model.named_parameters():
        if "lora_" in name and "magnitude" not in name:
            weight.data = torch.randn(weight.shape, generator=draw) * 0.1
    return model.train(), fused


def results(
    model: torch.nn.Module, *, inputs: torch.dtype = torch.float32, run: Callable[..., Any] | None = None
) -> Results:
    """Return the output, and the gradients of the input and of the adapter."""
    draw = torch.Generator().manual_seed(2)
    x = torch.randn(3, 7, IN, generator=draw).to(inputs).requires_grad_()
    grad = torch.randn(3, 7, OUT, generator=draw)
    model.zero_grad()
    torch.manual_seed(4)  # of dropout
    y = run(model, x) if run else model(x)
    y.backward(grad.to(y.dtype))
    assert x.grad is not None
    weights = {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
    return {"y": y.detach(), "x": x.grad, **weights}


def by_peft(model: PeftModel, fused: FusedLora, **options: Any) -> Results:
    fused.active = False
    try:
        return results(model, **options)
    finally:
        fused.active = True


@pytest.fixture
def fused_calls(monkeypatch: pytest.MonkeyPatch) -> list[torch.Size]:
    """The shapes of the inputs that fused projections ran on."""
    calls: list[torch.Size] = []
    apply = _LoraLinear.apply

    def counted(x: torch.Tensor, *args: object) -> torch.Tensor:
        calls.append(x.shape)
        return apply(x, *args)

    monkeypatch.setattr(_LoraLinear, "apply", counted)
    return calls


def assert_same_bits(found: Results, expected: Results) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].dtype == value.dtype, name
        assert torch.equal(found[name], value), name


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("nf4", [False, True])
def test_outputs_and_gradients_are_those_of_peft(fused_calls: list[torch.Size], nf4: bool, bias: bool) -> None:
    model, fused = lora(nf4=nf4, bias=bias)
    expected = by_peft(model, fused)
    assert not fused_calls
    found = results(model)
    assert fused_calls
    assert found.keys() == expected.keys()
    assert len(expected) == 4  # y, x, A and B
    for name, value in expected.items():
        assert found[name].dtype == value.dtype
        assert_near(found[name], value, share=2e-6, name=name)


@pytest.mark.parametrize("nf4", [False, True])
@pytest.mark.parametrize("inputs", [torch.float32, torch.bfloat16])
def test_in_bfloat16_it_is_as_exact_as_peft(nf4: bool, inputs: torch.dtype) -> None:
    model, fused = lora(nf4=nf4)
    exact = by_peft(model, fused, run=lambda model, x: model(x.to(inputs).float()))
    with torch.autocast("cpu", torch.bfloat16):
        theirs, ours = by_peft(model, fused, inputs=inputs), results(model, inputs=inputs)
    for name, value in exact.items():
        assert ours[name].dtype == theirs[name].dtype, name
        error, error_of_peft = (float((found[name] - value).norm() / value.norm()) for found in (ours, theirs))
        assert 0 < error <= 1.5 * error_of_peft, f"{name}: {error:.2g} beside {error_of_peft:.2g}"


def train_base(model: PeftModel) -> None:
    model.base_model.model.linear.base_layer.bias.requires_grad_()


@pytest.mark.parametrize("nf4", [False, True])
@pytest.mark.parametrize(
    ("options", "change"),
    [
        ({"lora_dropout": 0.5}, None),
        ({"use_dora": True}, None),
        ({"lora_bias": True}, None),
        ({"adapters": 2}, None),  # the second one is added after the layers were fused
        ({}, train_base),
    ],
    ids=["dropout", "DoRA", "bias", "two adapters", "trained base"],
)
def test_a_layer_that_does_not_fit_keeps_the_forward_of_peft(
    nf4: bool, options: dict[str, Any], change: Callable[[PeftModel], None] | None
) -> None:
    model, fused = lora(nf4=nf4, **options)
    if change:
        change(model)
    assert_same_bits(results(model), by_peft(model, fused))


@pytest.mark.filterwarnings("ignore:Merge lora module", "ignore:Unmerge lora module")
@pytest.mark.parametrize("nf4", [False, True])
@pytest.mark.parametrize("mode", ["eval", "no grad", "reference", "disabled", "merged"])
def test_other_passes_give_the_bits_of_peft(nf4: bool, mode: str, fused_calls: list[torch.Size]) -> None:
    model, fused = lora(nf4=nf4)
    x = torch.randn(2, 5, IN, generator=torch.Generator().manual_seed(5))
    ways = contextlib.ExitStack()
    if mode == "eval":
        model.eval()
    if mode in ("reference", "disabled"):
        ways.enter_context(model.disable_adapter())
    if mode == "merged":
        model.merge_adapter()
    with ways, torch.set_grad_enabled(mode not in ("no grad", "reference")):
        found = model(x)
        fused.active = False
        assert torch.equal(found, model(x))
    assert not fused_calls


@pytest.mark.filterwarnings("ignore:Merge lora module", "ignore:Unmerge lora module")
def test_a_merged_and_unmerged_weight_is_read_again() -> None:
    model, fused = lora(nf4=True)
    before = results(model)
    model.merge_adapter()
    model.unmerge_adapter()  # quantised again, with other maxima
    found, expected = results(model), by_peft(model, fused)
    assert not torch.equal(before["y"], found["y"])
    for name, value in expected.items():
        assert_near(found[name], value, share=2e-6, name=name)


@pytest.mark.parametrize("seen_by_autograd", [True, False])
def test_the_adapter_is_cast_again_after_it_changed(seen_by_autograd: bool) -> None:
    model, fused = lora()
    results(model)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad and seen_by_autograd:
                weight.mul_(2)  # as an optimiser does
            elif weight.requires_grad:
                weight.data.mul_(2)
    if not seen_by_autograd:
        fused.forget_casts()
    found = results(model)
    for name, value in by_peft(model, fused).items():
        assert_near(found[name], value, share=2e-6, name=name)


@pytest.mark.parametrize("nf4", [False, True])
def test_recomputed_projections_have_the_same_bits(nf4: bool, fused_calls: list[torch.Size]) -> None:
    model, _ = lora(nf4=nf4)
    kept = results(model)
    assert_same_bits(results(model, run=lambda model, x: checkpoint(model, x, use_reentrant=False)), kept)
    assert len(fused_calls) == 3  # twice for the recomputed one


def test_a_compiled_layer_has_the_gradients_of_peft(fused_calls: list[torch.Size]) -> None:
    model, fused = lora()
    expected = by_peft(model, fused)
    found = results(model, run=lambda model, x: torch.compile(model, backend="eager")(x))
    assert fused_calls == []
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value)


def test_without_a_gradient_of_the_input_the_adapter_still_has_one() -> None:
    model, fused = lora(nf4=True)
    x = torch.randn(4, IN, generator=torch.Generator().manual_seed(5))

    def gradients() -> Results:
        model.zero_grad()
        model(x).sum().backward()
        return {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}

    found = gradients()
    fused.active = False
    for name, value in gradients().items():
        assert_near(found[name], value, share=2e-6, name=name)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("nf4", [False, True])
def test_forward_keeps_no_more_for_backward(nf4: bool, dtype: torch.dtype) -> None:
    model, fused = lora(nf4=nf4)

    def one() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            model(torch.ones(64, IN, dtype=dtype, requires_grad=True)).sum().backward()

    ours = kept_bytes(one, model)
    fused.active = False
    assert 0 < ours <= kept_bytes(one, model)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("nf4", [False, True])
def test_a_step_is_that_of_trl(
    tiny_base: Path, tmp_path: Path, nf4: bool, checkpointing: bool, fused_calls: list[torch.Size]
) -> None:
    def taken(*, shared_prefix: bool) -> Any:
        options: dict[str, Any] = {"gradient_checkpointing": checkpointing, "shared_prefix": shared_prefix}
        trainer = trainer_for(tiny_base, tmp_path, "skewed", nf4=nf4, **options)
        if checkpointing:  # transformers enables it at the first step
            trainer.model.gradient_checkpointing_enable(trainer.args.gradient_checkpointing_kwargs)
        return step(trainer)

    loss, metrics, gradients = taken(shared_prefix=False)
    assert not fused_calls
    ours = taken(shared_prefix=True)
    assert len(fused_calls) == len(gradients) // 2 * (1 + checkpointing)  # A and B of every projection
    assert_same_step(ours, (loss, metrics, gradients))
