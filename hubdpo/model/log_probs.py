"""Log-probabilities of the tokens of answers, from one forward pass over several sequences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch
    from peft import PeftModel
    from transformers import PreTrainedModel

POSITIONS_AT_ONCE = 1024
"""Positions whose logits are in memory together: 1,024 rows of Qwen2's vocabulary take 0.6 GB in float32."""


def causal_lm(model: PreTrainedModel | PeftModel) -> PreTrainedModel:
    """Return the transformers model inside a PEFT model, whose layers hold the adapter, or the model itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def answer_log_probs(
    model: PreTrainedModel | PeftModel, sequences: Sequence[tuple[Sequence[int] | npt.NDArray[np.int64], Sequence[int]]]
) -> list[torch.Tensor]:
    """Return log p(ids[t] | ids[:t]) in nats for chosen positions t of each sequence: float32, shaped (positions,).

    `sequences` are token ids with their positions, each at least 1. The caller sets evaluation mode and `no_grad`.
    """
    import torch
    from torch.nn.utils.rnn import pad_sequence

    lm = causal_lm(model)
    # (sequences, longest); padding is on the right, where the causal mask hides it, so any token id will do
    ids = pad_sequence([torch.tensor(ids) for ids, _ in sequences], batch_first=True).to(model.device)
    lengths = torch.tensor([len(ids) for ids, _ in sequences], device=ids.device)
    mask = torch.arange(ids.shape[1], device=ids.device)[None] < lengths[:, None]
    hidden = lm.base_model(input_ids=ids, attention_mask=mask.long(), use_cache=False).last_hidden_state
    found = []
    for row, (_, positions) in enumerate(sequences):
        parts = []
        for at in torch.tensor(positions, device=ids.device).split(POSITIONS_AT_ONCE):
            # the hidden state at t - 1, (positions, width), predicts the token at t
            vocabulary = lm.lm_head(hidden[row, at - 1]).float().log_softmax(dim=-1)
            parts.append(vocabulary.gather(1, ids[row, at, None])[:, 0])
        found.append(torch.cat(parts))
    return found
