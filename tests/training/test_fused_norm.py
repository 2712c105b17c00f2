"""Norms as one kernel: only where it is the same, and only while training."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from transformers.models.gemma2.modeling_gemma2 import Gemma2RMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.olmo2.modeling_olmo2 import Olmo2RMSNorm
from transformers.models.qwen2.modeling_qwen2 import Qwen2RMSNorm
from transformers.models.qwen3.modeling_qwen3 import Qwen3RMSNorm

from hubdpo.training.step.lora import FusedNorms

WIDTH = 48


class ShiftedRMSNorm(Qwen2RMSNorm):
    """A norm with the name and the fields of Qwen2's, which does something else."""

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return super().forward(hidden_states) + 1e-3


def drawn(norm: torch.nn.Module, dtype: torch.dtype = torch.float32) -> torch.nn.Module:
    draw = torch.Generator().manual_seed(1)
    norm.weight.data = torch.rand(WIDTH, generator=draw)
    return norm.to(dtype).train()


@pytest.mark.parametrize("kind", [Qwen2RMSNorm, Qwen3RMSNorm, LlamaRMSNorm, Olmo2RMSNorm])
def test_plain_norms_are_fused_and_give_the_same(kind: Callable[..., torch.nn.Module]) -> None:
    states = torch.randn(3, 5, WIDTH, requires_grad=True)
    norm = drawn(kind(WIDTH, eps=1e-6))
    expected = norm(states)
    (gradient,) = torch.autograd.grad(expected.square().sum(), states)
    fused = FusedNorms(torch.nn.Sequential(norm))
    assert len(fused.layers) == 1
    found = norm(states)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(torch.autograd.grad(found.square().sum(), states)[0], gradient)


@pytest.mark.parametrize("norm", [Gemma2RMSNorm(WIDTH), ShiftedRMSNorm(WIDTH), torch.nn.LayerNorm(WIDTH)])
def test_other_norms_are_left_alone(norm: torch.nn.Module) -> None:
    assert FusedNorms(torch.nn.Sequential(norm)).layers == []
    assert "forward" not in vars(norm)


def test_in_bfloat16_the_error_is_no_larger_than_the_models_own() -> None:
    states = torch.randn(400, WIDTH)
    exact = drawn(Qwen2RMSNorm(WIDTH))(states)
    norm = drawn(Qwen2RMSNorm(WIDTH), torch.bfloat16)
    own = (norm(states.bfloat16()).float() - exact).norm()
    FusedNorms(torch.nn.Sequential(norm))
    found = norm(states.bfloat16())
    assert found.dtype == torch.bfloat16
    assert (found.float() - exact).norm() <= 1.05 * own


def test_evaluation_runs_the_models_own_code(monkeypatch: pytest.MonkeyPatch) -> None:
    norm = drawn(Qwen2RMSNorm(WIDTH))
    fused = FusedNorms(torch.nn.Sequential(norm))
    calls: list[torch.Tensor] = []
    monkeypatch.setattr("torch.nn.functional.rms_norm", lambda states, *args: calls.append(states))
    norm(torch.ones(1, WIDTH))
    assert len(calls) == 1
    norm.eval()
    norm(torch.ones(1, WIDTH))
    norm.train()
    fused.active = False
    norm(torch.ones(1, WIDTH))
    assert len(calls) == 1
