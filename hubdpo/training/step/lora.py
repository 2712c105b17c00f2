"""Run the projections of a LoRA adapter, and norms, as few kernels where the libraries launch many.

PEFT computes y = W x + b, copies y, and adds s * B (A x): with autocast and NF4 about twelve kernels for a projection,
and autograd sums three gradients of x. On a GPU these launches and passes over memory took as long as the matrix
products. Here a projection is four kernels,

    y = W x + b        h = s A x         y += B h  (in place)

and so is its backward, with g the gradient of y:

    k = s Bᵀ g         dA = k xᵀ         dB = g hᵀ         dx = Wᵀ g, then dx += Aᵀ k  (in place)

W is frozen and gets no gradient. The results are PEFT's up to rounding: y is rounded twice where PEFT rounds it four
times. NF4 weights are de-quantised as bitsandbytes does it, but their block maxima, which are quantised as well, only
once: for a 7B model these are 0.4 GB.

A root-mean-square norm is one function of PyTorch. transformers writes the norm of each family out in Python, in eight
kernels: to float32, square, mean, root, product, back to bfloat16, product with the weight. Families differ (Gemma
multiplies with 1 + weight), so a norm is replaced only when both give the same on random numbers.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from bitsandbytes.functional import QuantState, dequantize_4bit, dequantize_blockwise
from bitsandbytes.nn import Linear4bit, Params4bit
from peft import PeftModel
from peft.tuners.lora import LoraLayer

from hubdpo.model.adapters.reference import POLICY

Forward = Callable[..., torch.Tensor]
TOLERANCE = 1e-5


class FusedLora:
    """Replaces the forward pass of every LoRA layer that fits, for as long as it is `active` and the layer trains.

    In evaluation mode PEFT's own forward pass runs, so scores and probes are those that PEFT gives for the adapter. It
    also runs in layers that do not fit, or no longer do. The reference is the pass without gradients, with the adapter
    disabled or with the reference adapter.
    """

    def __init__(self, model: PeftModel) -> None:
        self.active = True
        self.layers = [_Parts(part) for part in model.modules() if isinstance(part, LoraLayer)]
        for parts in self.layers:
            parts.layer.forward = functools.partial(self._forward, parts, parts.layer.forward)

    def forget_casts(self) -> None:
        """Cast the adapter again when it is next used. Call this after every change that autograd does not see."""
        for parts in self.layers:
            parts.forget_casts()

    def _forward(
        self, parts: _Parts, unfused: Forward, x: torch.Tensor, *args: object, **kwargs: object
    ) -> torch.Tensor:
        layer = parts.layer
        if not self.active or not layer.training or args or kwargs or not _fits(layer):
            return unfused(x, *args, **kwargs)
        if torch.compiler.is_compiling():  # a compiled graph would lose the gradients of the adapter
            return unfused(x)
        is_reference = layer.disable_adapters or layer.active_adapters != [POLICY]
        if is_reference == torch.is_grad_enabled():
            return unfused(x)
        if layer.disable_adapters:
            return _linear(x.to(_compute_type(x)), parts).to(parts.output_type(x))
        a, b = parts.weights()
        return _LoraLinear.apply(x, a, b, parts)


def _fits(layer: LoraLayer) -> bool:
    """Tell whether a layer is a frozen linear one with one plain adapter: no dropout, no bias, no DoRA."""
    base = layer.base_layer
    if type(base) not in (torch.nn.Linear, Linear4bit) or len(layer.active_adapters) != 1 or layer.merged:
        return False
    if base.weight.requires_grad or (base.bias is not None and base.bias.requires_grad):
        return False
    if isinstance(base, Linear4bit):
        # a sharded weight has no state; some processors hold another order of weights after an evaluation
        state = getattr(base.weight, "quant_state", None)
        if state is None or getattr(state, "packing_format_for_cpu", False):
            return False
    name = layer.active_adapters[0]
    plain = isinstance(layer.lora_dropout[name], torch.nn.Identity) if name in layer.lora_A else False
    return plain and name not in layer.lora_variant and layer.lora_B[name].bias is None


class _Parts:
    """What a projection multiplies with, in the type that it computes in."""

    def __init__(self, layer: LoraLayer) -> None:
        self.layer = layer
        self._quantised_maxima: torch.Tensor | None = None
        self._state: QuantState
        self._casts: dict[str, tuple[object, tuple[torch.Tensor, ...]]] = {}

    def forget_casts(self) -> None:
        self._casts = {name: cast for name, cast in self._casts.items() if name != POLICY}  # others never change

    def weights(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return A [r, in] and B [out, r] of the active adapter, as they are trained."""
        name = self.layer.active_adapters[0]
        return self.layer.lora_A[name].weight, self.layer.lora_B[name].weight

    def frozen(self, dtype: torch.dtype) -> torch.Tensor:
        """Return W [out, in], de-quantised."""
        weight = self.layer.base_layer.weight
        if not isinstance(weight, Params4bit):
            return weight.to(dtype)
        # these are others once the weight was moved, or merged and quantised again
        if self._quantised_maxima is not weight.quant_state.absmax:
            self._state = _with_plain_maxima(weight.quant_state)
            self._quantised_maxima = weight.quant_state.absmax
        return dequantize_4bit(weight.data, self._state).to(dtype)

    def trained(self, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
        """Return A, s A, B and s B. They are cast once an optimiser step."""
        a, b = (weight.detach() for weight in self.weights())
        key = (dtype, a.data_ptr(), a._version, b.data_ptr(), b._version)
        name = self.layer.active_adapters[0]
        if name not in self._casts or self._casts[name][0] != key:
            scaling = self.layer.scaling[name]
            self._casts[name] = key, tuple(weight.to(dtype) for weight in (a, a * scaling, b, b * scaling))
        return self._casts[name][1]

    def output_type(self, x: torch.Tensor) -> torch.dtype:
        """Return the type that the layer's output has in PEFT: Linear4bit gives x its type back, a Linear does not."""
        return x.dtype if isinstance(self.layer.base_layer, Linear4bit) else _compute_type(x)


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


def _linear(x: torch.Tensor, parts: _Parts) -> torch.Tensor:
    bias = parts.layer.base_layer.bias
    return F.linear(x, parts.frozen(x.dtype), None if bias is None else bias.to(x.dtype))


class _LoraLinear(torch.autograd.Function):
    """y = W x + b + s * B (A x), for x [..., in], A [r, in] and B [out, r] in float32, computed in autocast's type."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, a: torch.Tensor, b: torch.Tensor, parts: _Parts) -> torch.Tensor:
        rows = x.to(_compute_type(x)).flatten(0, -2)  # [N, in]
        _, scaled_a, b, _ = parts.trained(rows.dtype)
        y = _linear(rows, parts)
        scaled_ax = rows @ scaled_a.T  # [N, r]
        y.addmm_(scaled_ax, b.T)
        ctx.save_for_backward(rows, scaled_ax)
        ctx.parts, ctx.shape, ctx.dtype, ctx.trained = parts, x.shape, x.dtype, parts.trained(rows.dtype)
        return y.view(*x.shape[:-1], y.shape[-1]).to(parts.output_type(x))

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        rows, scaled_ax = ctx.saved_tensors
        a, _, _, scaled_b = ctx.trained
        grad = grads[0].to(rows.dtype).flatten(0, -2)  # [N, out]
        through_b = grad @ scaled_b  # [N, r]
        grad_a = (through_b.T @ rows).float()
        grad_b = (grad.T @ scaled_ax).float()
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = grad @ ctx.parts.frozen(grad.dtype)
            grad_x.addmm_(through_b, a)
            grad_x = grad_x.view(ctx.shape).to(ctx.dtype)
        return grad_x, grad_a, grad_b, None


class FusedNorms:
    """Replaces the forward pass of every norm that `torch.nn.functional.rms_norm` equals, while the norm trains.

    In evaluation mode the model's own code runs, so scores are those that transformers gives.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        self.active = True
        self.layers = [part for part in model.modules() if type(part).__name__.endswith("RMSNorm") and _is_plain(part)]
        for norm in self.layers:
            norm.forward = functools.partial(self._forward, norm, norm.forward)

    def _forward(self, norm: torch.nn.Module, unfused: Forward, states: torch.Tensor) -> torch.Tensor:
        if not self.active or not norm.training:
            return unfused(states)
        return F.rms_norm(states, norm.weight.shape, norm.weight.to(states.dtype), norm.variance_epsilon)


def _is_plain(norm: torch.nn.Module) -> bool:
    """Tell whether a norm is x / sqrt(mean(x²) + epsilon) * weight, by trying."""
    weight, epsilon = getattr(norm, "weight", None), getattr(norm, "variance_epsilon", None)
    if weight is None or weight.dim() != 1 or not isinstance(epsilon, float):
        return False
    draw = torch.Generator().manual_seed(0)
    states, scales = torch.randn(4, len(weight), generator=draw), torch.rand(len(weight), generator=draw)
    states, scales = states.to(weight.device), scales.to(weight.device)
    with torch.no_grad():
        own = torch.func.functional_call(norm, {"weight": scales}, (states,))
    return bool(torch.allclose(own.float(), F.rms_norm(states, weight.shape, scales, epsilon), atol=TOLERANCE))
