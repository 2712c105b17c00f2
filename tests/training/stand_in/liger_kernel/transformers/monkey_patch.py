"""Stands in for Liger's package, whose kernels need a GPU: it changes what Liger changes, and counts the calls."""

from __future__ import annotations

from collections import Counter
from types import MethodType
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.models.qwen2 import modeling_qwen2

calls: Counter[str] = Counter()
stretched = False
"""Whether the MLP computes something else, as a kernel for another activation would."""


class LigerSwiGLUMLP(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        calls["mlp"] += 1
        gate = self.gate_proj(x)
        return self.down_proj(gate * self.up_proj(x) * torch.sigmoid(gate) * (1.1 if stretched else 1))


def rotary(q: torch.Tensor, k: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, *rest: Any) -> Any:
    calls["rotary"] += 1
    half = q.shape[-1] // 2
    c, s = cos[:, None, :, :half], sin[:, None, :, :half]
    return tuple(
        torch.cat([x[..., :half] * c - x[..., half:] * s, x[..., half:] * c + x[..., :half] * s], dim=-1)
        for x in (q, k)
    )


def apply_liger_kernel_to_qwen2(
    rope: bool = True,
    cross_entropy: bool = False,
    fused_linear_cross_entropy: bool = True,
    rms_norm: bool = True,
    swiglu: bool = True,
    model: PreTrainedModel | None = None,
) -> None:
    assert model is not None
    assert rope
    assert swiglu
    assert not (rms_norm or cross_entropy or fused_linear_cross_entropy)
    modeling_qwen2.apply_rotary_pos_emb = rotary
    modeling_qwen2.Qwen2MLP = LigerSwiGLUMLP
    for layer in model.model.layers:
        layer.mlp.__dict__["forward"] = MethodType(LigerSwiGLUMLP.forward, layer.mlp)


def apply_liger_kernel_to_gpt2(model: PreTrainedModel | None = None) -> None:
    """Change nothing, as for a family of which Liger has the loss alone."""


MODEL_TYPE_TO_APPLY_LIGER_FN = {"qwen2": apply_liger_kernel_to_qwen2, "gpt2": apply_liger_kernel_to_gpt2}
