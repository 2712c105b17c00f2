"""The KL of an adapter to its reference is the sum over the vocabulary, at each scored token."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from hubdpo.evaluation import divergence
from hubdpo.evaluation.divergence import kl_to
from hubdpo.evaluation.models import BASE, START, Models
from hubdpo.model.adapters.load import attach_adapter
from hubdpo.model.adapters.reference import add_reference
from tests.near import assert_near

ROWS = [
    {"prompt_ids": [5, 6, 7], "chosen_ids": [8, 9, 10, 11], "rejected_ids": [12], "chosen_context": [1, 2]},
    {"prompt_ids": [20], "chosen_ids": [21, 22], "rejected_ids": [23, 24, 25]},
]
"""The second token of the first chosen answer is context, which is not scored."""


@pytest.fixture(scope="module")
def model(tiny_base: Path, run_dir: Path) -> torch.nn.Module:
    return attach_adapter(AutoModelForCausalLM.from_pretrained(tiny_base, dtype=torch.float32), run_dir).eval()


def expected(model: torch.nn.Module) -> tuple[float, int]:
    """The definition, token by token, in float64 from the logits of the whole sequence."""
    total, tokens = 0.0, 0
    for row in ROWS:
        for side in ("chosen", "rejected"):
            ids = torch.tensor([[*row["prompt_ids"], *row[f"{side}_ids"]]])
            with torch.no_grad():
                p = model(ids).logits[0].double().log_softmax(-1)
                with model.disable_adapter():
                    q = model(ids).logits[0].double().log_softmax(-1)
            for place in range(len(row[f"{side}_ids"])):
                if side == "chosen" and "chosen_context" in row and place == 1:
                    continue
                t = len(row["prompt_ids"]) + place - 1
                total += sum(float(p[t, v].exp() * (p[t, v] - q[t, v])) for v in range(p.shape[1]))
                tokens += 1
    return total / tokens, tokens


@pytest.mark.parametrize("at_once", [256, 2])
def test_the_kl_is_that_of_the_definition(
    model: torch.nn.Module, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(divergence, "LOGITS_AT_ONCE", at_once)
    monkeypatch.setattr(divergence, "SUMMED_AT_ONCE", 1)
    model.train()
    found = kl_to(BASE, Models(model), ROWS)
    assert model.training
    model.eval()
    value, tokens = expected(model)
    assert (found.tokens, found.pairs) == (tokens, 2)
    assert found.interval is not None
    assert found.interval.low < found.value < found.interval.high
    assert value > 1e-6
    assert_near(found.value, value, share=1e-3)


def test_a_reference_adapter_takes_the_place_of_the_base(tiny_base: Path, run_dir: Path) -> None:
    model = attach_adapter(AutoModelForCausalLM.from_pretrained(tiny_base, dtype=torch.float32), run_dir)
    add_reference(model, run_dir)
    assert abs(kl_to(START, Models(model), ROWS).value) < 1e-7


def test_two_models_without_adapters_are_compared_too(model: torch.nn.Module, tiny_base: Path, tmp_path: Path) -> None:
    base = AutoModelForCausalLM.from_pretrained(tiny_base, dtype=torch.float32).eval()
    other = AutoModelForCausalLM.from_pretrained(tiny_base, dtype=torch.float32).eval()
    for weight in other.parameters():
        weight.data.mul_(1.01)
    found = kl_to(BASE, Models(other, base=base), ROWS)
    assert found.value > 1e-6
    assert kl_to(BASE, Models(base, base=base), ROWS).value == 0
