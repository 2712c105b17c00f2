"""Run a padded preference batch through the backbone as one packed row in which each pair's common prefix stands once.

Stock DPO gives the backbone `[2B, T]` rows: every pair pays for its prompt twice, and every row for the longest one.
Here, hooks on the backbone turn the padded batch into one row of N tokens,

    prefix₀ | rest of chosen₀ | rest of rejected₀ | prefix₁ | ...

and leave everything else to TRL. The results are those of the padded batch, up to the order of floating-point sums. In
a causal decoder, norms, projections and MLP act on each token alone, and attention gives token t a function of tokens
0..t and their position ids:

- Both rows of a pair begin with the prefix, so its states are equal in both, and computing them once is enough.
- A token of the rejected rest has the prefix and the rejected tokens before it as keys, at the positions of its own
  row. The packed row gives it exactly these keys and positions, and hides the chosen rest that lies between.
- Other pairs are hidden as well, and padding is not there at all.

After the backbone, the language-model head gets the hidden states of the scored tokens alone, and its results are put
back to their padded places, so TRL computes losses and metrics from the tensors that it expects.

The idea is Prefix Sharing (arXiv 2410.20305). Attention goes through transformers' `AttentionInterface`. Outside
`packed()` it is plain sdpa, so generation and other forward passes are not affected.
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
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast

from hubdpo import console

ATTENTION = "hubdpo_shared_prefix"
IGNORED_LABEL = -100
Arguments = tuple[object, ...]
Keywords = dict[str, Any]
"""Keyword arguments of a forward pass, as PyTorch hands them to a hook."""


@dataclass(frozen=True)
class Branch:
    """A causal run `[start, stop)` of the packed row, whose queries also see the keys `[prefix, prefix_end)`."""

    start: int
    stop: int
    prefix: int
    prefix_end: int


@dataclass(frozen=True)
class Layout:
    """Where each packed token comes from and goes to: N packed tokens, M real tokens of the padded `[2B, T]` batch."""

    gather: torch.Tensor
    """[N] flat padded index of each packed token."""
    position_ids: torch.Tensor
    """[1, N] position of each packed token in its own row."""
    padded: torch.Tensor
    """[M] flat padded index of each real token."""
    packed: torch.Tensor
    """[M] index of the packed token that computes it; a prefix token computes two."""
    branches: list[Branch]
    keys: torch.Tensor
    """[K] packed index of the keys of every branch, branch after branch; K > N, as prefixes repeat."""
    query_bounds: torch.Tensor
    """[branches + 1] int32 cumulative query counts, as varlen attention takes them."""
    key_bounds: torch.Tensor
    """[branches + 1] int32 cumulative key counts."""
    longest_query: int
    longest_key: int


def prefix_lengths(input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
    """Return `[B]`: the number of leading tokens that rows i and B + i of a right-padded batch `[2B, T]` share."""
    first, second = input_ids.chunk(2)
    real = attention_mask.bool()
    equal = (first == second) & real[: len(first)] & real[len(first) :]
    # 1 1 0 1 -> 1 1 0 0: the product stops at the first difference
    return equal.long().cumprod(dim=1).sum(dim=1)


def build_layout(input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Layout:
    """Lay out a right-padded batch `[2B, T]` whose rows i and B + i are the chosen and rejected side of pair i.

    The prefix is the longest common run of tokens, so answers that begin alike share that part as well.
    """
    pairs, width = input_ids.shape[0] // 2, input_ids.shape[1]
    real = attention_mask.bool()
    prefix = prefix_lengths(input_ids, attention_mask)
    # the only transfer from the device: [B, 3] lengths, from which the CPU builds all indices
    lengths = torch.stack([real[:pairs].sum(dim=1), real[pairs:].sum(dim=1), prefix], dim=1).tolist()

    gather, positions, padded, packed, branches = [], [], [], [], []
    offset = 0
    for pair, (chosen, rejected, shared) in enumerate(lengths):
        # padded rows begin at `first` and `second`; packed: [offset, tail) is chosen, [tail, end) rejected's rest
        first, second = pair * width, (pairs + pair) * width
        tail = offset + chosen
        end = tail + rejected - shared
        gather += [torch.arange(first, first + chosen), torch.arange(second + shared, second + rejected)]
        positions += [torch.arange(chosen), torch.arange(shared, rejected)]
        padded += [torch.arange(first, first + chosen), torch.arange(second, second + rejected)]
        packed += [torch.arange(offset, tail), torch.arange(offset, offset + shared), torch.arange(tail, end)]
        # chosen is causal by itself, prefix included; rejected's rest also sees the prefix at its beginning
        branches.append(Branch(offset, tail, offset, offset))
        if end > tail:
            branches.append(Branch(tail, end, offset, offset + shared))
        offset = end

    keys = [torch.arange(*span) for b in branches for span in ((b.prefix, b.prefix_end), (b.start, b.stop))]
    query_counts = [b.stop - b.start for b in branches]
    key_counts = [b.stop - b.start + b.prefix_end - b.prefix for b in branches]

    def joined(parts: list[torch.Tensor]) -> torch.Tensor:
        return torch.cat(parts).to(input_ids.device, non_blocking=True)

    def bounds(counts: list[int]) -> torch.Tensor:
        return F.pad(torch.tensor(counts).cumsum(0), (1, 0)).to(input_ids.device, torch.int32)

    return Layout(
        gather=joined(gather),
        position_ids=joined(positions)[None],
        padded=joined(padded),
        packed=joined(packed),
        branches=branches,
        keys=joined(keys),
        query_bounds=bounds(query_counts),
        key_bounds=bounds(key_counts),
        longest_query=max(query_counts),
        longest_key=max(key_counts),
    )


def _attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    layout: Layout | None = None,
    **kwargs: object,
) -> tuple[torch.Tensor, None]:
    """Attend within each branch. As in transformers: query [1, heads, N, d], key and value [1, key heads, N, d]."""
    if layout is None:
        output, _ = sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **kwargs)
        return output, None
    flash = query.is_cuda and flash_takes(query.device, query.dtype, query.shape[-1])
    attend = _attend_varlen if flash else _attend_by_branch
    return attend(query, key, value, scaling, layout), None


@functools.cache
def flash_takes(device: torch.device, dtype: torch.dtype, head_dim: int) -> bool:
    """Tell whether varlen flash attention (torch/nn/attention/varlen.py) can run; warn once when it cannot."""
    requirements = {
        "a GPU of compute capability 8.0": torch.cuda.get_device_capability(device) >= (8, 0),
        "16-bit states": dtype in (torch.bfloat16, torch.float16),
        "heads of 256 numbers at most": head_dim <= 256,
        "torch.nn.attention.varlen": importlib.util.find_spec("torch.nn.attention.varlen") is not None,
    }
    missing = [requirement for requirement, is_met in requirements.items() if not is_met]
    if missing:
        console.warn(f"attention runs pair by pair, which is slower: flash attention needs {', '.join(missing)}")
    return not missing


def _attend_by_branch(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float | None, layout: Layout
) -> torch.Tensor:
    outputs = []
    for b in layout.branches:
        q, k, v = (states[:, :, b.start : b.stop] for states in (query, key, value))
        mask = None
        if b.prefix_end > b.prefix:
            k = torch.cat([key[:, :, b.prefix : b.prefix_end], k], dim=2)
            v = torch.cat([value[:, :, b.prefix : b.prefix_end], v], dim=2)
            # [queries, prefix + queries]: query i sees the whole prefix and queries 0..i. sdpa's `is_causal` would
            # align the triangle at the top left and hide the end of the prefix
            mask = q.new_ones(q.shape[2], k.shape[2], dtype=torch.bool).tril(b.prefix_end - b.prefix)
        outputs.append(
            F.scaled_dot_product_attention(q, k, v, mask, is_causal=mask is None, scale=scale, enable_gqa=True)
        )
    return torch.cat(outputs, dim=2).transpose(1, 2)


def _attend_varlen(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float | None, layout: Layout
) -> torch.Tensor:
    from torch.nn.attention.varlen import varlen_attn

    parameters = inspect.signature(varlen_attn).parameters
    # [1, heads, N, d] -> [N, heads, d]; keys are gathered to [K, key heads, d], so that a branch's prefix precedes it
    q = query[0].transpose(0, 1)
    k, v = (states[0].transpose(0, 1).index_select(0, layout.keys) for states in (key, value))
    # the window (all before, none after) is causality, and varlen aligns the last query with the last key
    options: Keywords = {"scale": scale, "window_size": (-1, 0)}
    if q.shape[1] != k.shape[1]:
        if "enable_gqa" in parameters:
            options["enable_gqa"] = True
        else:  # torch 2.11 needs as many key heads as query heads
            k, v = (states.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for states in (k, v))
    longest = (layout.longest_query, layout.longest_key)
    return varlen_attn(q, k, v, layout.query_bounds, layout.key_bounds, *longest, **options)[None]


AttentionInterface.register(ATTENTION, _attention)
# without a mask function of the same name, forward passes that are not packed would run unmasked
AttentionMaskInterface.register(ATTENTION, sdpa_mask)


@dataclass(frozen=True)
class Scored:
    """The S positions of a padded batch `[2B, T]` whose next token has a label."""

    mask: torch.Tensor
    """[2B, T - 1] True where the next token has a label."""
    hidden: torch.Tensor
    """[S] flat padded index of the token before each label, whose hidden state predicts it."""


class SharedPrefix:
    """Hooks on a causal language model and its backbone that act only inside `with shared_prefix.packed():`.

    `padded_tokens` and `packed_tokens` count the tokens that the backbone would have run, and those that it ran.
    """

    def __init__(self, causal_lm: PreTrainedModel) -> None:
        causal_lm.set_attn_implementation(ATTENTION)
        self.padded_tokens = 0
        self.packed_tokens = 0
        self._active = False
        self._shape: tuple[int, int] = (0, 0)
        self._layout: Layout | None = None
        # policy and reference run the same batch, so its layout is built once: that takes a transfer from the device
        self._built: tuple[torch.Tensor, torch.Tensor, Layout] | None = None
        self._scored: Scored | None = None
        causal_lm.register_forward_pre_hook(self._select_labels, with_kwargs=True)
        causal_lm.register_forward_hook(self._restore_log_probs, with_kwargs=True)
        backbone = causal_lm.base_model
        backbone.register_forward_pre_hook(self._pack, with_kwargs=True)
        backbone.register_forward_hook(self._unpack, with_kwargs=True)

    @contextmanager
    def packed(self) -> Iterator[None]:
        """Pack the forward passes of the body."""
        self._active = True
        try:
            yield
        finally:
            self._active, self._layout, self._scored, self._built = False, None, None, None

    def _select_labels(
        self, model: torch.nn.Module, args: Arguments, kwargs: Keywords
    ) -> tuple[Arguments, Keywords] | None:
        """Give TRL's fused head (trl/trainer/utils.py, `add_fused_lm_head`) only the S labels, already shifted."""
        labels = kwargs.get("labels")
        if not self._active or not kwargs.get("fused_lm_head") or labels is None:
            return None
        # the state at position t predicts the token at t + 1: shift by one, then keep the labelled positions
        mask = labels[:, 1:] != IGNORED_LABEL
        rows, columns = mask.nonzero(as_tuple=True)
        self._scored = Scored(mask, rows * labels.shape[1] + columns)
        return args, {**kwargs, "labels": None, "shift_labels": labels[:, 1:][mask][None]}

    def _restore_log_probs(
        self, model: torch.nn.Module, args: Arguments, kwargs: Keywords, output: CausalLMOutputWithPast
    ) -> CausalLMOutputWithPast | None:
        """Put the head's `[1, S]` results back to their places in `[2B, T - 1]`, with 0 where there is no label."""
        scored, self._scored = self._scored, None
        if scored is None:
            return None
        for name, value in list(output.items()):
            if isinstance(value, torch.Tensor) and value.dim() == 2:
                output[name] = value.new_zeros(scored.mask.shape).masked_scatter(scored.mask, value)
        return output

    def _pack(self, backbone: torch.nn.Module, args: Arguments, kwargs: Keywords) -> tuple[Arguments, Keywords] | None:
        ids, mask = kwargs.get("input_ids"), kwargs.get("attention_mask")
        if not self._active or ids is None or mask is None:
            return None
        if self._built is None or self._built[0] is not ids or self._built[1] is not mask:
            self._built = (ids, mask, build_layout(ids, mask))
        self._layout = layout = self._built[2]
        self._shape = (ids.shape[0], ids.shape[1])
        self.padded_tokens += ids.numel()
        self.packed_tokens += layout.gather.numel()
        # transformers passes a four-dimensional mask through, so this empty one keeps it from building an N x N mask;
        # `layout` is a keyword argument because recomputation repeats keyword arguments, but not this hook
        packed = {
            "input_ids": ids.reshape(-1)[layout.gather][None],
            "position_ids": layout.position_ids,
            "attention_mask": ids.new_empty((1, 1, 1, 1), dtype=torch.bool),
            "layout": layout,
        }
        return args, {**kwargs, **packed}

    def _unpack(
        self, backbone: torch.nn.Module, args: Arguments, kwargs: Keywords, output: BaseModelOutputWithPast
    ) -> BaseModelOutputWithPast | None:
        layout, self._layout = self._layout, None
        if layout is None:
            return None
        rows, width = self._shape
        hidden = output.last_hidden_state[0]  # [N, d]
        if self._scored is not None:
            # the head runs S tokens: padded index -> packed index -> hidden state, [1, S, d]
            packed_index = layout.padded.new_zeros(rows * width).index_copy(0, layout.padded, layout.packed)
            output.last_hidden_state = hidden.index_select(0, packed_index.index_select(0, self._scored.hidden))[None]
            return output
        padded = hidden.new_zeros(rows * width, hidden.shape[-1])
        padded = padded.index_copy(0, layout.padded, hidden.index_select(0, layout.packed))
        output.last_hidden_state = padded.view(rows, width, -1)
        return output
