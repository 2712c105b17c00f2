"""Run a linear layer and its LoRA adapter as one function, with fewer kernels and copies than PEFT's forward.

PEFT computes y = W x + b, copies y, and adds s * B (A x): with autocast and NF4 about twelve kernels for a projection,
and autograd sums three gradients of x. On a GPU these launches and passes over memory took as long as the matrix
products. Here a projection is five kernels,

    y = W x + b        xa = A x          y += s * B xa  (in place)

and so is its backward, with g the gradient of y:

    gb = s * Bᵀ g      dA = gb xᵀ        dB = s * g xaᵀ        dx = Wᵀ g, then dx += Aᵀ gb  (in place)

W is frozen and gets no gradient. The results are PEFT's up to rounding: y is rounded once where PEFT rounds it three
times. NF4 weights are de-quantised as bitsandbytes does it, but their block maxima, which are quantised as well, only
once: for a 7B model these are 0.4 GB.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from bitsandbytes.functional import QuantState, dequantize_4bit, dequantize_blockwise
from bitsandbytes.nn import Linear4bit
from peft import PeftModel
from peft.tuners.lora import LoraLayer

Forward = Callable[..., torch.Tensor]


class FusedLora:
    """Replaces the forward pass of every LoRA layer that fits, for as long as it is `active` and the layer trains.

    In evaluation mode PEFT's own forward pass runs, so scores and probes are those that PEFT gives for the adapter.
    """

    def __init__(self, model: PeftModel) -> None:
        self.active = True
        self.layers = [part for part in model.modules() if isinstance(part, LoraLayer) and _fits(part)]
        for layer in self.layers:
            layer.forward = functools.partial(self._forward, layer, _Weight(layer), layer.forward)

    def _forward(
        self, layer: LoraLayer, weight: _Weight, unfused: Forward, x: torch.Tensor, *args: object, **kwargs: object
    ) -> torch.Tensor:
        if not self.active or not layer.training or layer.merged:
            return unfused(x, *args, **kwargs)
        if layer.disable_adapters:  # the reference
            return _linear(x.to(_compute_type(x)), weight).to(x.dtype)
        name = layer.active_adapters[0]
        a, b = layer.lora_A[name].weight, layer.lora_B[name].weight
        return _LoraLinear.apply(x, a, b, weight, layer.scaling[name])


def _fits(layer: LoraLayer) -> bool:
    """Tell whether a layer is a linear one with one plain adapter: no dropout, no bias, no variant such as DoRA."""
    if type(layer.base_layer) not in (torch.nn.Linear, Linear4bit) or len(layer.active_adapters) != 1:
        return False
    name = layer.active_adapters[0]
    plain = isinstance(layer.lora_dropout[name], torch.nn.Identity) if name in layer.lora_A else False
    return plain and name not in layer.lora_variant and layer.lora_B[name].bias is None


class _Weight:
    """The frozen weight [out, in] and bias under an adapter, de-quantised when it is used."""

    def __init__(self, layer: LoraLayer) -> None:
        self._layer = layer
        self._state: QuantState | None = None

    @property
    def bias(self) -> torch.Tensor | None:
        return self._layer.base_layer.bias

    def in_type(self, dtype: torch.dtype) -> torch.Tensor:
        weight = self._layer.base_layer.weight
        if getattr(weight, "quant_state", None) is None:
            return weight.to(dtype)
        if self._state is None or self._state.absmax.device != weight.device:
            self._state = _with_plain_maxima(weight.quant_state)
        return dequantize_4bit(weight.data, self._state).to(dtype)


def _with_plain_maxima(state: QuantState) -> QuantState:
    """Return a quantisation state whose block maxima are float32, from one that may have quantised them (QLoRA)."""
    if not state.nested:
        return state
    maxima = (dequantize_blockwise(state.absmax, state.state2) + state.offset).float()
    return QuantState(
        absmax=maxima, shape=state.shape, code=state.code, blocksize=state.blocksize, quant_type=state.quant_type,
        dtype=state.dtype,
    )  # fmt: skip


def _compute_type(x: torch.Tensor) -> torch.dtype:
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype


def _linear(x: torch.Tensor, weight: _Weight) -> torch.Tensor:
    bias = weight.bias
    return F.linear(x, weight.in_type(x.dtype), None if bias is None else bias.to(x.dtype))


class _LoraLinear(torch.autograd.Function):
    """y = W x + b + s * B (A x), for x [..., in], A [r, in], B [out, r] in float32, computed in autocast's type."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, a: torch.Tensor, b: torch.Tensor, weight: _Weight, scaling: float
    ) -> torch.Tensor:
        dtype = _compute_type(x)
        rows = x.to(dtype).flatten(0, -2)  # [N, in]
        a, b = a.to(dtype), b.to(dtype)
        y = _linear(rows, weight)
        xa = rows @ a.T  # [N, r]
        y.addmm_(xa, b.T, alpha=scaling)
        ctx.save_for_backward(rows, xa, a, b)
        ctx.weight, ctx.scaling, ctx.shape, ctx.dtype = weight, scaling, x.shape, x.dtype
        return y.view(*x.shape[:-1], -1).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        rows, xa, a, b = ctx.saved_tensors
        grad = grads[0].to(rows.dtype).flatten(0, -2)  # [N, out]
        through_b = (grad @ b) * ctx.scaling  # [N, r]
        grad_a = (through_b.T @ rows).float()
        grad_b = (grad.T @ xa).float() * ctx.scaling
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = grad @ ctx.weight.in_type(grad.dtype)
            grad_x.addmm_(through_b, a)
            grad_x = grad_x.view(ctx.shape).to(ctx.dtype)
        return grad_x, grad_a, grad_b, None, None
