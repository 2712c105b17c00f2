"""Run a padded preference batch through the backbone as one packed row in which each pair's common prefix stands once.

Stock DPO gives the backbone `[2B, T]` rows: every pair pays for its prompt twice and every row for the longest one.
Here hooks on the backbone change that and nothing else. Before it, the padded batch becomes one row

    prefix₀ | rest of chosen₀ | rest of rejected₀ | prefix₁ | ...

A rejected token attends to its prefix and its own branch only, at the positions it would have had in its own row, so
the numbers are those of the padded batch up to the order of floating-point sums. After the backbone, hooks around the
model give its language-model head the hidden states of the answers' tokens alone, with their labels, and put what it
returns back to the padded places: the losses and the metrics of TRL see what they always see.

The idea is Prefix Sharing (arXiv 2410.20305). Attention goes through transformers' `AttentionInterface`; with no packed
batch under way it is plain sdpa, so generation and other forwards are untouched.
"""

from __future__ import annotations

import functools
import importlib.util
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from hubdpo import console

ATTENTION = "hubdpo_shared_prefix"


@dataclass(frozen=True)
class Branch:
    """One causal sequence of the packed row: queries `[start, stop)`, which see the keys `[prefix, prefix_end)` too."""

    start: int
    stop: int
    prefix: int
    prefix_end: int


@dataclass(frozen=True)
class Layout:
    """Where each packed token comes from and goes to. N packed tokens, M real tokens of the padded `[2B, T]` batch."""

    gather: torch.Tensor
    """[N] flat padded index of each packed token."""
    position_ids: torch.Tensor
    """[1, N] its position in its own row."""
    padded: torch.Tensor
    """[M] flat padded index of each real token."""
    packed: torch.Tensor
    """[M] the packed token whose hidden state it takes; a prefix token serves two."""
    branches: list[Branch]
    keys: torch.Tensor
    """Packed index of the keys of every branch, one branch after the other."""
    query_bounds: torch.Tensor
    key_bounds: torch.Tensor
    longest_query: int
    longest_key: int


def prefix_lengths(input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
    """Return `[B]`, the first tokens that rows i and B + i of a right-padded batch `[2B, T]` have in common."""
    first, second = input_ids.chunk(2)
    real = attention_mask.bool()
    alike = (first == second) & real[: len(first)] & real[len(first) :]
    return alike.long().cumprod(dim=1).sum(dim=1)


def build_layout(input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Layout:
    """Lay out a right-padded batch `[2B, T]` whose rows i and B + i are the chosen and rejected side of pair i.

    The prefix is the longest common run of tokens, so answers that begin alike share that part as well.
    """
    pairs, width = input_ids.shape[0] // 2, input_ids.shape[1]
    real = attention_mask.bool()
    prefix = prefix_lengths(input_ids, attention_mask)
    # the only transfer from the device
    lengths = torch.stack([real[:pairs].sum(dim=1), real[pairs:].sum(dim=1), prefix], dim=1).tolist()

    gather, positions, padded, packed, branches = [], [], [], [], []
    offset = 0
    for pair, (chosen, rejected, shared) in enumerate(lengths):
        first, second = pair * width, (pairs + pair) * width
        tail = offset + chosen
        end = tail + rejected - shared
        gather += [torch.arange(first, first + chosen), torch.arange(second + shared, second + rejected)]
        positions += [torch.arange(chosen), torch.arange(shared, rejected)]
        padded += [torch.arange(first, first + chosen), torch.arange(second, second + rejected)]
        packed += [torch.arange(offset, tail), torch.arange(offset, offset + shared), torch.arange(tail, end)]
        branches.append(Branch(offset, tail, offset, offset))
        if end > tail:
            branches.append(Branch(tail, end, offset, offset + shared))
        offset = end

    keys = [torch.arange(*span) for b in branches for span in ((b.prefix, b.prefix_end), (b.start, b.stop))]
    queries = [b.stop - b.start for b in branches]
    seen = [b.stop - b.start + b.prefix_end - b.prefix for b in branches]

    def place(parts: list[torch.Tensor]) -> torch.Tensor:
        return torch.cat(parts).to(input_ids.device, non_blocking=True)

    def bounds(sizes: list[int]) -> torch.Tensor:
        return F.pad(torch.tensor(sizes).cumsum(0), (1, 0)).to(input_ids.device, torch.int32)

    return Layout(
        gather=place(gather),
        position_ids=place(positions)[None],
        padded=place(padded),
        packed=place(packed),
        branches=branches,
        keys=place(keys),
        query_bounds=bounds(queries),
        key_bounds=bounds(seen),
        longest_query=max(queries),
        longest_key=max(seen),
    )


def _attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    layout: Layout | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attend within each branch. Shapes are transformers': query [1, heads, N, d], key and value [1, kv, N, d]."""
    if layout is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **kwargs)
    flash = query.is_cuda and flash_takes(query.device, query.dtype, query.shape[-1])
    attend = _attend_varlen if flash else _attend_by_branch
    return attend(query, key, value, scaling, layout), None


@functools.cache
def flash_takes(device: torch.device, dtype: torch.dtype, head_dim: int) -> bool:
    """Tell whether flash attention runs on a GPU (torch/nn/attention/varlen.py); where it does not, warn once."""
    reasons = {
        "a GPU of compute capability 8.0": torch.cuda.get_device_capability(device) >= (8, 0),
        "16-bit states": dtype in (torch.bfloat16, torch.float16),
        "heads of 256 numbers at most": head_dim <= 256,
        "torch.nn.attention.varlen": importlib.util.find_spec("torch.nn.attention.varlen") is not None,
    }
    missing = [what for what, there in reasons.items() if not there]
    if missing:
        console.warn(f"attention goes pair by pair, which is slower: flash attention needs {', '.join(missing)}")
    return not missing


def _attend_by_branch(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float | None, layout: Layout
) -> torch.Tensor:
    answers = []
    for b in layout.branches:
        q, k, v = (states[:, :, b.start : b.stop] for states in (query, key, value))
        mask = None
        if b.prefix_end > b.prefix:
            k = torch.cat([key[:, :, b.prefix : b.prefix_end], k], dim=2)
            v = torch.cat([value[:, :, b.prefix : b.prefix_end], v], dim=2)
            # sdpa aligns is_causal at the top left; the branch stands at the bottom right of its keys
            mask = q.new_ones(q.shape[2], k.shape[2], dtype=torch.bool).tril(b.prefix_end - b.prefix)
        answers.append(
            F.scaled_dot_product_attention(q, k, v, mask, is_causal=mask is None, scale=scale, enable_gqa=True)
        )
    return torch.cat(answers, dim=2).transpose(1, 2)


def _attend_varlen(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float | None, layout: Layout
) -> torch.Tensor:
    from torch.nn.attention.varlen import varlen_attn

    known = inspect.signature(varlen_attn).parameters
    q = query[0].transpose(0, 1)
    k, v = (states[0].transpose(0, 1).index_select(0, layout.keys) for states in (key, value))
    # this window is causality, with the queries aligned with the last keys
    options: dict[str, Any] = {"scale": scale, "window_size": (-1, 0)}
    if q.shape[1] != k.shape[1]:
        if "enable_gqa" in known:
            options["enable_gqa"] = True
        else:  # torch 2.11 takes no fewer heads of keys than of queries
            k, v = (states.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for states in (k, v))
    longest = (layout.longest_query, layout.longest_key)
    return varlen_attn(q, k, v, layout.query_bounds, layout.key_bounds, *longest, **options)[None]


AttentionInterface.register(ATTENTION, _attention)
# without a mask function of the same name, forwards that are not packed would run unmasked
AttentionMaskInterface.register(ATTENTION, sdpa_mask)


@dataclass(frozen=True)
class Scored:
    """The S positions whose next token has a label, of a padded batch `[2B, T]`."""

    mask: torch.Tensor
    """[2B, T - 1]"""
    hidden: torch.Tensor
    """[S] flat padded index of the token before each label."""


class SharedPrefix:
    """Hooks on a causal language model and its backbone, active only inside `with shared_prefix.packed():`.

    `padded_tokens` and `packed_tokens` count what the backbone would have run and what it ran.
    """

    def __init__(self, causal_lm: Any) -> None:
        causal_lm.set_attn_implementation(ATTENTION)
        self.padded_tokens = 0
        self.packed_tokens = 0
        self._active = False
        self._shape: tuple[int, int] = (0, 0)
        self._layout: Layout | None = None
        # policy and reference see the same batch, and a layout takes a transfer from the device
        self._built: tuple[torch.Tensor, torch.Tensor, Layout] | None = None
        self._scored: Scored | None = None
        causal_lm.register_forward_pre_hook(self._take_labels, with_kwargs=True)
        causal_lm.register_forward_hook(self._put_back, with_kwargs=True)
        backbone = causal_lm.base_model
        backbone.register_forward_pre_hook(self._pack, with_kwargs=True)
        backbone.register_forward_hook(self._unpack, with_kwargs=True)

    @contextmanager
    def packed(self) -> Iterator[None]:
        self._active = True
        try:
            yield
        finally:
            self._active, self._layout, self._scored, self._built = False, None, None, None

    def _take_labels(self, model: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]] | None:
        """Give TRL's head (trl/trainer/utils.py, `add_fused_lm_head`) the labels that count, already shifted."""
        labels = kwargs.get("labels")
        if not self._active or not kwargs.get("fused_lm_head") or labels is None:
            return None
        mask = labels[:, 1:] != -100
        rows, places = mask.nonzero(as_tuple=True)
        self._scored = Scored(mask, rows * labels.shape[1] + places)
        return args, {**kwargs, "labels": None, "shift_labels": labels[:, 1:][mask][None]}

    def _put_back(self, model: Any, args: Any, kwargs: dict[str, Any], output: Any) -> Any:
        """Return what the head gave for each label, `[1, S]`, to its place in `[2B, T - 1]`; 0 where there is none."""
        scored, self._scored = self._scored, None
        if scored is None:
            return None
        for name, value in list(output.items()):
            if isinstance(value, torch.Tensor) and value.dim() == 2:
                placed = value.new_zeros(scored.mask.shape).masked_scatter(scored.mask, value)
                output[name] = placed
        return output

    def _pack(self, backbone: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]] | None:
        ids, mask = kwargs.get("input_ids"), kwargs.get("attention_mask")
        if not self._active or ids is None or mask is None:
            return None
        if self._built is None or self._built[0] is not ids or self._built[1] is not mask:
            self._built = (ids, mask, build_layout(ids, mask))
        self._layout = layout = self._built[2]
        self._shape = (ids.shape[0], ids.shape[1])
        self.padded_tokens += ids.numel()
        self.packed_tokens += layout.gather.numel()
        # transformers hands a four-dimensional mask through untouched, so no N x N mask is built from this empty one;
        # `layout` travels as a keyword because a checkpoint's recomputation repeats keywords but not this hook
        packed = {
            "input_ids": ids.reshape(-1)[layout.gather][None],
            "position_ids": layout.position_ids,
            "attention_mask": ids.new_empty((1, 1, 1, 1), dtype=torch.bool),
            "layout": layout,
        }
        return args, {**kwargs, **packed}

    def _unpack(self, backbone: Any, args: Any, kwargs: dict[str, Any], output: Any) -> Any:
        layout, self._layout = self._layout, None
        if layout is None:
            return None
        rows, width = self._shape
        hidden = output.last_hidden_state[0]
        if self._scored is not None:
            packed_at = layout.padded.new_zeros(rows * width).index_copy(0, layout.padded, layout.packed)
            wanted = packed_at.index_select(0, self._scored.hidden)
            output.last_hidden_state = hidden.index_select(0, wanted)[None]
            return output
        padded = hidden.new_zeros(rows * width, hidden.shape[-1])
        padded = padded.index_copy(0, layout.padded, hidden.index_select(0, layout.packed))
        output.last_hidden_state = padded.view(rows, width, -1)
        return output
