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

In a mixture of experts, TRL's head computes the auxiliary loss of the routers from means over the padded batch's real
tokens. It is told how many of these a packed token stands for.

The idea is Prefix Sharing (arXiv 2410.20305). `attention.py` keeps to each family's own attention, and raises NotShared
for what it sees that a packed row cannot repeat; `families.py` compares the two forward passes before the first step.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast

from hubdpo.training.step.attention import EMPTY_MASK, Keywords, use_own_attention, use_packed_attention
from hubdpo.training.step.layout import Layout, build_layout

IGNORED_LABEL = -100
Arguments = tuple[object, ...]


@dataclass(frozen=True)
class Scored:
    """The S positions of a padded batch `[2B, T]` whose next token has a label."""

    mask: torch.Tensor
    """[2B, T - 1] True where the next token has a label."""
    hidden: torch.Tensor
    """[S] flat padded index of the token before each label, whose hidden state predicts it."""


def _scored_positions(labels: torch.Tensor) -> Scored:
    """Return the positions that predict a label of `[2B, T]`: the state at position t predicts the token at t + 1."""
    mask = labels[:, 1:] != IGNORED_LABEL
    rows, columns = mask.nonzero(as_tuple=True)
    return Scored(mask, rows * labels.shape[1] + columns)


class SharedPrefix:
    """A forward pass of a causal language model, and hooks on its backbone, that act only inside `with packed():`.

    Raise NotShared for a model whose attention cannot run in branches.
    `padded_tokens` and `packed_tokens` count the tokens that the backbone would have run, and those that it ran.
    """

    def __init__(self, causal_lm: PreTrainedModel) -> None:
        use_packed_attention(causal_lm)
        self._model = causal_lm
        self.padded_tokens = 0
        self.packed_tokens = 0
        self._active = False
        self._shape: tuple[int, int] = (0, 0)
        self._layout: Layout | None = None
        # policy and reference run the same batch, so its layout is built once: that takes a transfer from the device
        self._built: tuple[torch.Tensor, torch.Tensor, Layout] | None = None
        self._scored: Scored | None = None
        # no hooks: PEFT 0.20 calls the model's `forward` itself, which runs none
        self._forward = causal_lm.forward
        causal_lm.forward = functools.wraps(self._forward)(lambda *args, **kwargs: self._score(*args, **kwargs))
        backbone = causal_lm.base_model
        self._hooks = [
            backbone.register_forward_pre_hook(self._pack, with_kwargs=True),
            backbone.register_forward_hook(self._unpack, with_kwargs=True),
        ]

    def remove(self) -> None:
        """Leave the model as it was."""
        for hook in self._hooks:
            hook.remove()
        self._model.forward = self._forward
        use_own_attention(self._model)

    @contextmanager
    def packed(self) -> Iterator[None]:
        """Pack the forward passes of the body; inside another such body, as part of that."""
        if self._active:
            yield
            return
        self._active = True
        try:
            yield
        finally:
            self._active, self._layout, self._scored, self._built = False, None, None, None

    def _layout_of(self, ids: torch.Tensor, mask: torch.Tensor) -> Layout:
        if self._built is None or self._built[0] is not ids or self._built[1] is not mask:
            self._built = (ids, mask, build_layout(ids, mask))
        return self._built[2]

    def _score(self, *args: object, **kwargs: Any) -> CausalLMOutputWithPast:
        """Run the model's forward pass; packed, its head gets the S labelled positions alone."""
        labels = kwargs.get("labels")
        if not self._active or not kwargs.get("fused_lm_head") or labels is None:
            return self._forward(*args, **kwargs)
        self._scored = scored = _scored_positions(labels)
        layout = self._layout_of(kwargs["input_ids"], kwargs["attention_mask"])
        # TRL's fused head (trl/trainer/utils.py, `add_fused_lm_head`) takes labels that are shifted already. The
        # backbone gets another mask; to the routers' loss this one weighs each packed token
        kwargs |= {"labels": None, "shift_labels": labels[:, 1:][scored.mask][None], "attention_mask": layout.counts}
        try:
            output = self._forward(*args, **kwargs)
        finally:
            self._scored = None
        # put the head's [1, S] results back to their places in [2B, T - 1], with 0 where there is no label
        for name, value in list(output.items()):
            if isinstance(value, torch.Tensor) and value.dim() == 2:
                output[name] = value.new_zeros(scored.mask.shape).masked_scatter(scored.mask, value)
        return output

    def _pack(self, backbone: torch.nn.Module, args: Arguments, kwargs: Keywords) -> tuple[Arguments, Keywords] | None:
        ids, mask = kwargs.get("input_ids"), kwargs.get("attention_mask")
        if not self._active or ids is None or mask is None:
            return None
        # behind `_score`, the mask is no longer that of the batch
        layout = self._built[2] if self._built and self._scored else self._layout_of(ids, mask)
        self._layout = layout
        self._shape = (ids.shape[0], ids.shape[1])
        self.padded_tokens += ids.numel()
        self.packed_tokens += layout.gather.numel()
        # transformers passes a four-dimensional mask through, so this empty one keeps it from building an N x N mask;
        # `layout` is a keyword argument because recomputation repeats keyword arguments, but not this hook
        packed = {
            "input_ids": ids.reshape(-1)[layout.gather][None],
            "position_ids": layout.position_ids,
            "attention_mask": ids.new_empty(EMPTY_MASK, dtype=torch.bool),
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
