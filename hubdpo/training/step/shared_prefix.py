"""Run a padded preference batch through the backbone as one packed row in which everything shared stands once.

Stock DPO gives the backbone `[2B, T]` rows: every pair pays for its prompt twice, an answer in several pairs is run for
each of them, and every row is as wide as the longest one. Here, hooks on the backbone turn the padded batch into one
row of N tokens,

    prompt₀ + answer₀ | answer₁ to prompt₀ | answer₂ to prompt₀ | prompt₁ + answer₃ | ...

and leave everything else to TRL. The results are those of the padded batch, up to the order of floating-point sums. In
a causal decoder, norms, projections and MLP act on each token alone, and attention gives token t a function of tokens
0..t and their position ids:

- Sequences that begin alike have equal states there, so computing these once is enough, for two or for a hundred.
- A token of a later branch has what precedes it in its own sequence as keys, at the positions of that sequence. The
  packed row gives it exactly these keys and positions, and hides the other branches that lie between.
- Padding is not there at all.

After the backbone, the language-model head gets the hidden states of the scored tokens alone, each once. Its results
are put to all their padded places, so TRL computes losses and metrics from the tensors that it expects, and autograd
adds up what the pairs of an answer ask of it.

In a mixture of experts, TRL's head computes the auxiliary loss of the routers from means over the padded batch's real
tokens. It is told how many of these a packed token stands for.

The idea is Prefix Sharing (arXiv 2410.20305). `attention.py` keeps to each family's own attention, and raises NotShared
for what it sees that a packed row cannot repeat; `families.py` compares the two forward passes before the first step.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast

from hubdpo.training.step.attention import EMPTY_MASK, Keywords, use_own_attention, use_packed_attention
from hubdpo.training.step.layout import Layout

IGNORED_LABEL = -100
Arguments = tuple[object, ...]


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
        self._layout: Layout | None = None
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
    def packed(self, layout: Layout | None) -> Iterator[None]:
        """Pack the forward passes of the body, which run the batch of this layout, or of that of an outer body."""
        outer = self._layout
        self._layout = outer or layout
        try:
            yield
        finally:
            self._layout = outer

    def _score(self, *args: object, **kwargs: Any) -> CausalLMOutputWithPast:
        """Run the model's forward pass; packed, its head gets the distinct positions that have a label."""
        layout = self._layout
        if layout is None:
            return self._forward(*args, **kwargs)
        # TRL's fused head (trl/trainer/utils.py, `add_fused_lm_head`) takes labels that are shifted already. The
        # backbone gets another mask; to the routers' loss this one weighs each packed token
        own = {"labels": None, "shift_labels": layout.labels[None], "attention_mask": layout.counts}
        output = self._forward(*args, **{**kwargs, **own})
        # put the head's [1, D] results to their places in [2B, T - 1], with 0 where there is no label
        for name, value in list(output.items()):
            if isinstance(value, torch.Tensor) and value.dim() == 2:
                placed = value.new_zeros(layout.shape[0] * layout.shape[1])
                placed = placed.index_copy(0, layout.places, value[0].index_select(0, layout.spread))
                output[name] = placed.view(layout.shape)
        return output

    def _pack(self, backbone: torch.nn.Module, args: Arguments, kwargs: Keywords) -> tuple[Arguments, Keywords] | None:
        layout, ids = self._layout, kwargs.get("input_ids")
        if layout is None or ids is None or kwargs.get("attention_mask") is None:
            return None
        self.padded_tokens += ids.numel()
        self.packed_tokens += layout.input_ids.numel()
        # transformers passes a four-dimensional mask through, so this empty one keeps it from building an N x N mask;
        # `layout` is a keyword argument because recomputation repeats keyword arguments, but not this hook
        packed = {
            "input_ids": layout.input_ids,
            "position_ids": layout.position_ids,
            "attention_mask": ids.new_empty(EMPTY_MASK, dtype=torch.bool),
            "layout": layout,
        }
        return args, {**kwargs, **packed}

    def _unpack(
        self, backbone: torch.nn.Module, args: Arguments, kwargs: Keywords, output: BaseModelOutputWithPast
    ) -> BaseModelOutputWithPast | None:
        layout: Layout | None = kwargs.get("layout")
        if layout is None:
            return None
        # [1, N, d] to [1, D, d]
        output.last_hidden_state = output.last_hidden_state[0].index_select(0, layout.hidden)[None]
        return output
