"""Attention over a packed row, branch by branch, as each family of models computes it.

A model keeps the attention that transformers gives it: sdpa, or the family's own code where sdpa cannot do what the
family needs, such as the soft cap of Gemma 2 or the sinks of gpt-oss. That function runs on every branch, with the
branch's mask, so it does there what it does on a padded row. On a GPU, sdpa models run one varlen flash attention over
all branches instead.

Outside a packed pass, both functions and their masks are those of transformers.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import eager_mask, sdpa_mask

from hubdpo import console
from hubdpo.training.step.layout import Layout

PREFIX = "hubdpo_shared_prefix_"
EMPTY_MASK = (1, 1, 1, 1)
"""Shape of the mask of a packed pass: transformers passes a mask of four dimensions through, and so builds no N x N."""
Keywords = dict[str, Any]
"""Keyword arguments of a forward pass, as PyTorch hands them to a hook."""
Attend = Callable[..., tuple[torch.Tensor, torch.Tensor | None]]
"""An attention function of transformers."""


class NotShared(RuntimeError):
    """A packed row cannot repeat what the model does. The message says what that is, as a clause about the model."""


def use_packed_attention(model: PreTrainedModel) -> None:
    """Give a model the attention of this module, which is its own outside packed passes. Raise NotShared."""
    own = _implementation(model)
    if own not in ("sdpa", "eager"):
        raise NotShared(f"it has attention of its own kind, `{own}`")
    model.set_attn_implementation(PREFIX + own)
    if _implementation(model) != PREFIX + own:
        raise NotShared("its attention cannot be replaced")


def use_own_attention(model: PreTrainedModel) -> None:
    """Give a model its own attention back."""
    model.set_attn_implementation(_implementation(model).removeprefix(PREFIX))


def _implementation(model: PreTrainedModel) -> str:
    return str(model.config.get_text_config()._attn_implementation)


def _attention(
    attend: Attend,
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    layout: Layout | None = None,
    sliding_window: int | None = None,
    **options: Any,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Attend within each branch. As in transformers: query [1, heads, N, d], key and value [1, key heads, N, d]."""
    if layout is None:
        if attention_mask is not None and attention_mask.shape == EMPTY_MASK and query.shape[2] > 1:
            raise NotShared("its layers do not pass the layout of a packed row on to their attention")
        return attend(module, query, key, value, attention_mask, sliding_window=sliding_window, **options)
    if options.get("dropout"):
        raise NotShared(f"its attention drops {options['dropout']:.0%} of its weights at random")
    if options.get("position_bias") is not None:
        raise NotShared("its attention adds a bias to each pair of positions")
    on_gpu = query.is_cuda and attend is sdpa_attention_forward
    if on_gpu and flash_takes(query.device, query.dtype, query.shape[-1], value.shape[-1]):
        return attend_varlen(query, key, value, layout, sliding_window, options.get("scaling")), None
    return attend_by_branch(attend, module, query, key, value, layout, sliding_window, **options), None


def own_attention(
    module: torch.nn.Module, *states: torch.Tensor | None, **options: Any
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Run the `eager_attention_forward` that transformers has beside the module's class."""
    for parent in type(module).__mro__:  # FSDP puts a class of its own in front
        attend: Attend | None = getattr(sys.modules[parent.__module__], "eager_attention_forward", None)
        if attend is not None:
            return attend(module, *states, **options)
    raise NotShared("its attention cannot be replaced")


def attend_by_branch(
    attend: Attend, module: torch.nn.Module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor,
    layout: Layout, window: int | None = None, **options: Any,
) -> torch.Tensor:  # fmt: skip
    """Return [1, N, heads, d] from one call of `attend` a branch; a token sees at most `window` keys."""
    is_sdpa, outputs = attend is sdpa_attention_forward, []
    for b in layout.branches:
        q, k, v = (states[:, :, b.start : b.stop] for states in (query, key, value))
        before = b.shared
        if before:
            spans = (*b.before, (b.start, b.stop))
            k, v = (torch.cat([states[:, :, start:stop] for start, stop in spans], dim=2) for states in (key, value))
        is_cut = window is not None and k.shape[2] > window
        mask = None
        if before or is_cut or not is_sdpa:
            # [1, 1, queries, prefix + queries]: query i sees the whole prefix and queries 0..i. sdpa's `is_causal`
            # would align the triangle at the top left and hide the end of the prefix
            mask = q.new_ones(1, 1, q.shape[2], k.shape[2], dtype=torch.bool).tril(before)
            if window is not None:  # itself, and window - 1 keys before it
                mask = mask.triu(before - window + 1)
            if not is_sdpa:  # a family's own code adds its mask
                mask = q.new_zeros(mask.shape).masked_fill(~mask, torch.finfo(q.dtype).min)
        outputs.append(attend(module, q, k, v, mask, sliding_window=window, **options)[0])
    return torch.cat(outputs, dim=1)


@functools.cache
def flash_takes(device: torch.device, dtype: torch.dtype, key_dim: int, value_dim: int) -> bool:
    """Tell whether varlen flash attention (torch/nn/attention/varlen.py) can run; warn once when it cannot."""
    requirements = {
        "a GPU of compute capability 8.0": torch.cuda.get_device_capability(device) >= (8, 0),
        "16-bit states": dtype in (torch.bfloat16, torch.float16),
        "heads of 256 numbers at most": key_dim <= 256,
        "values as wide as keys": value_dim == key_dim,
    }
    missing = [requirement for requirement, is_met in requirements.items() if not is_met]
    if missing:
        console.warn(f"attention runs pair by pair, which is slower: flash attention needs {', '.join(missing)}")
    return not missing


def attend_varlen(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, layout: Layout, window: int | None = None,
    scaling: float | None = None,
) -> torch.Tensor:  # fmt: skip
    """Return [1, N, heads, d] from varlen flash attention, whose sequences are the branches."""
    from torch.nn.attention.varlen import varlen_attn

    parameters = inspect.signature(varlen_attn).parameters
    # [1, heads, N, d] -> [N, heads, d]; keys are gathered to [K, key heads, d], so that a branch's prefix precedes it
    q = query[0].transpose(0, 1)
    k, v = (states[0].transpose(0, 1).index_select(0, layout.keys) for states in (key, value))
    # (keys before, keys after) the token itself, -1 for all: none after is causality, and varlen aligns the last query
    # with the last key
    options: Keywords = {"scale": scaling, "window_size": (-1 if window is None else window - 1, 0)}
    if q.shape[1] != k.shape[1]:
        if "enable_gqa" in parameters:
            options["enable_gqa"] = True
        else:  # torch 2.11 needs as many key heads as query heads
            k, v = (states.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for states in (k, v))
    longest = (layout.longest_query, layout.longest_key)
    return varlen_attn(q, k, v, layout.query_bounds, layout.key_bounds, *longest, **options)[None]


AttentionInterface.register(PREFIX + "sdpa", functools.partial(_attention, sdpa_attention_forward))
AttentionInterface.register(PREFIX + "eager", functools.partial(_attention, own_attention))
# without a mask function of the same name, forward passes that are not packed would run unmasked
AttentionMaskInterface.register(PREFIX + "sdpa", sdpa_mask)
AttentionMaskInterface.register(PREFIX + "eager", eager_mask)
