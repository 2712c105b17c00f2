"""Probes are computed in one way wherever they are: by eager attention, from the same code as the scores."""

from __future__ import annotations

from pathlib import Path

import torch

from hubdpo import load_adapter
from hubdpo.model.log_probs import answer_log_probs
from hubdpo.model.probes import record_probes


def test_probes_use_eager_attention_and_leave_the_model_as_it_was(run_dir: Path) -> None:
    loaded = load_adapter(run_dir)
    lm, used = loaded.model.get_base_model(), []
    lm.base_model.register_forward_hook(lambda *_: used.append((lm.config._attn_implementation, lm.training)))
    loaded.model.train()
    record_probes(loaded.model, loaded.tokenizer, load_in_4bit=True)
    assert used == [("eager", False)]
    assert (lm.config._attn_implementation, loaded.model.training) == ("sdpa", True)


def test_padding_and_other_sequences_change_no_log_prob(run_dir: Path) -> None:
    model = load_adapter(run_dir).model
    model.get_base_model().set_attn_implementation("eager")
    short, long = ([20, 21, 22, 23], [2, 3]), ([30, 31, 32] * 9, [5, 26])
    with torch.no_grad():
        alone, together = answer_log_probs(model, [short])[0], answer_log_probs(model, [short, long])[0]
    assert torch.allclose(alone, together, rtol=1e-5)
