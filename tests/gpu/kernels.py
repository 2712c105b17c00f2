"""The first step: versions, what the card can do, and the kernels of a training step by themselves."""

from __future__ import annotations

import contextlib
import importlib.metadata
import inspect
import os
import platform
import time

import bitsandbytes.functional as nf4
import torch
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from hubdpo.training.step.attention import attend_by_branch, attend_varlen
from hubdpo.training.step.layout import Layout, build_layout
from tests.gpu.findings import Check, apart

VERSIONS = (
    "torch", "triton", "transformers", "trl", "peft", "bitsandbytes", "accelerate", "huggingface_hub", "datasets",
    "tokenizers", "safetensors", "numpy", "liger_kernel",
)  # fmt: skip
HEADS = ((28, 4, 128, None), (14, 2, 64, None), (4, 4, 32, 24))
"""Query heads, key heads, numbers a head and window: of the 7B model, of the 0.5B model, and of one without shared key
heads whose window is shorter than its rows."""


def run(check: Check) -> None:
    with check.part("versions"):
        _versions(check)
    with check.part("imports"):
        began = time.monotonic()
        import hubdpo.cli.app
        import hubdpo.training.train  # noqa: F401

        check.find(import_seconds=round(time.monotonic() - began, 1))
    with check.part("ceilings"):
        _ceilings(check)
    with check.part("attention"):
        _attention(check)
    with check.part("NF4"):
        _nf4(check)
    if not check.rehearse:
        with check.part("attention, seconds"):
            _attention_seconds(check)


def _dtype(check: Check) -> torch.dtype:
    return torch.float32 if check.rehearse else torch.bfloat16


def _versions(check: Check) -> None:
    versions = {}
    for name in VERSIONS:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    card = None
    if not check.rehearse:
        card = {
            "name": torch.cuda.get_device_name(), "capability": torch.cuda.get_device_capability(),
            "memory_bytes": torch.cuda.mem_get_info()[1], "cuda": torch.version.cuda,
            "bfloat16": torch.cuda.is_bf16_supported(including_emulation=False),
        }  # fmt: skip
    check.find(python=platform.python_version(), versions=versions, cpus=os.cpu_count(), card=card)


def _ceilings(check: Check) -> None:
    """Find the rate of matrix products, of the product of a 7B layer, and of a copy within the device."""
    size = 256 if check.rehearse else 8192
    tokens, hidden, inner = (64, 128, 256) if check.rehearse else (5120, 3584, 18944)
    a, b = (torch.randn(size, size, device=check.device, dtype=_dtype(check)) for _ in range(2))
    x = torch.randn(tokens, hidden, device=check.device, dtype=_dtype(check))
    w = torch.randn(inner, hidden, device=check.device, dtype=_dtype(check))
    source = torch.randint(0, 255, ((1 if check.rehearse else 2048) << 20,), device=check.device, dtype=torch.uint8)
    target = torch.empty_like(source)
    square = check.seconds_of(lambda: a @ b)
    layer = check.seconds_of(lambda: torch.nn.functional.linear(x, w))
    copy = check.seconds_of(lambda: target.copy_(source))
    check.find(
        matmul_tflops=round(2 * size**3 / square / 1e12, 1),
        layer_tflops=round(2 * tokens * hidden * inner / layer / 1e12, 1),
        copy_tb_per_s=round(2 * source.numel() / copy / 1e12, 3),
    )


def _layout(check: Check, pairs: int, width: int) -> Layout:
    """Lay out pairs whose prefixes and lengths all differ."""
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(5, 400, (2 * pairs, width), generator=draw)
    mask = torch.ones_like(ids)
    for pair in range(pairs):
        ids[pairs + pair, : width // 3 + pair] = ids[pair, : width // 3 + pair]
        mask[pairs + pair, width - (7 * pair) % (width // 2) :] = 0
    return build_layout(ids * mask, mask, mask).to(torch.device(check.device))


def _by_branch(query, key, value, layout, window, scaling):  # noqa: ANN001, ANN202
    module = torch.nn.Module()
    module.num_key_value_groups = query.shape[1] // key.shape[1]
    return attend_by_branch(sdpa_attention_forward, module, query, key, value, layout, window, scaling=scaling)


def _attention(check: Check) -> None:
    """Compare outputs and gradients of both attention paths with the same in float32."""
    layout = _layout(check, 4, 96)
    paths = {"by branch": _by_branch}
    if not check.rehearse:
        paths["varlen"] = attend_varlen
    for heads, key_heads, width, window in HEADS:
        draw = torch.Generator().manual_seed(heads)
        shapes = [(1, count, layout.input_ids.numel(), width) for count in (heads, key_heads, key_heads)]
        states = [torch.randn(shape, generator=draw) for shape in shapes]
        grad = torch.randn(1, layout.input_ids.numel(), heads, width, generator=draw)

        def results(attend, dtype: torch.dtype, states=states, grad=grad, width=width, window=window):  # noqa: ANN001, ANN202
            leaves = [state.to(check.device, dtype).requires_grad_() for state in states]
            output = attend(*leaves, layout, window, width**-0.5)
            output.backward(grad.to(check.device, dtype))
            return [output.detach(), *(leaf.grad for leaf in leaves)]

        exact = results(_by_branch, torch.float32)
        for name, attend in paths.items():
            errors = [apart(*pair) for pair in zip(results(attend, _dtype(check)), exact, strict=True)]
            limit = 1e-5 if check.rehearse else 2e-2
            check.find(
                attention=name, heads=heads, key_heads=key_heads, width=width, window=window,
                errors_of_output_dq_dk_dv=errors, ok=max(errors) < limit,
            )  # fmt: skip


def _nf4(check: Check) -> None:
    """Find the error of NF4, and the rate of de-quantising the largest weight of a 7B layer."""
    rows, columns = (256, 128) if check.rehearse else (18944, 3584)
    dtype = _dtype(check)
    weight = torch.randn(rows, columns, device=check.device, dtype=dtype) * 0.02
    packed, state = nf4.quantize_4bit(weight, quant_type="nf4", compress_statistics=True, quant_storage=dtype)
    back = nf4.dequantize_4bit(packed, state)
    took = check.seconds_of(lambda: nf4.dequantize_4bit(packed, state))
    moved = rows * columns * (0.5 + back.element_size())
    error = apart(back, weight)
    check.find(
        nf4_error=round(error, 4), ok=error < 0.15, dequantise_us=round(took * 1e6, 1),
        dequantise_tb_per_s=round(moved / took / 1e12, 3), storage=str(packed.dtype),
    )  # fmt: skip


def _attention_seconds(check: Check) -> None:
    """Time a 7B layer's attention, forward and backward, by varlen flash attention and by FlexAttention."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention
    from torch.nn.attention.varlen import varlen_attn

    layout = _layout(check, 16, 256)
    tokens, (heads, key_heads, width, _) = layout.input_ids.numel(), HEADS[0]
    states = [
        torch.randn(1, count, tokens, width, device="cuda", dtype=torch.bfloat16, requires_grad=True)
        for count in (heads, key_heads, key_heads)
    ]
    grad = torch.randn(1, tokens, heads, width, device="cuda", dtype=torch.bfloat16)
    branch = torch.cat([torch.full((b.stop - b.start,), i) for i, b in enumerate(layout.branches)]).cuda()
    before = torch.zeros(len(layout.branches), tokens, dtype=torch.bool)
    for row, b in zip(before, layout.branches, strict=True):
        for start, stop in b.before:
            row[start:stop] = True
    before = before.cuda()

    def sees(batch, head, query, key):  # noqa: ANN001, ANN202
        return ((branch[query] == branch[key]) & (key <= query)) | before[branch[query], key]

    flex = torch.compile(flex_attention)

    def by_flex() -> torch.Tensor:
        mask = create_block_mask(sees, None, None, tokens, tokens, device="cuda")
        return flex(*states, block_mask=mask, enable_gqa=True).transpose(1, 2)

    def by_varlen() -> torch.Tensor:
        return attend_varlen(*states, layout, None, width**-0.5)

    check.find(varlen_signature=str(inspect.signature(varlen_attn)))
    found = {}
    for name, attend in {"varlen": by_varlen, "FlexAttention": by_flex}.items():
        with check.part(f"seconds of {name}"):
            output = attend()
            found[name] = output.detach()
            forward = check.seconds_of(attend)
            both = check.seconds_of(lambda attend=attend: attend().backward(grad))
            check.find(seconds_of=name, tokens=tokens, forward_us=round(forward * 1e6), both_us=round(both * 1e6))
    if len(found) == 2:
        check.find(flex_beside_varlen=apart(found["FlexAttention"], found["varlen"]))
