"""What headers say of a base: gaps, linear layers and experts, in the names of every family."""

from __future__ import annotations

from typing import Any

import pytest

from hubdpo.errors import ConfigError, UnsupportedBase
from hubdpo.hub.snapshot import Shapes
from hubdpo.model.bases.find import check_targets
from hubdpo.model.bases.tensors import BaseFacts, check_tensors, expert_values

CONFIG: dict[str, Any] = {"num_hidden_layers": 4, "vocab_size": 10, "hidden_size": 4, "tie_word_embeddings": True}


def gpt2() -> Shapes:
    layers = {f"h.{i}.{name}.weight": (4, 4) for i in range(4) for name in ("attn.c_attn", "mlp.c_fc")}
    norms = {f"h.{i}.ln_1.weight": (4,) for i in range(4)}
    return {"wte.weight": (10, 4), "wpe.weight": (20, 4), **layers, **norms}


def moe() -> Shapes:
    """A dense first layer, experts one by one in the others, with a shared expert and a router."""
    dense = {f"model.layers.0.mlp.{name}.weight": (4, 4) for name in ("gate_proj", "up_proj", "down_proj")}
    own = {f"model.layers.{i}.self_attn.q_proj.weight": (4, 4) for i in range(4)}
    experts = {
        f"model.layers.{i}.mlp.{name}.weight": (4, 4)
        for i in range(1, 4)
        for name in ("experts.0.up_proj", "experts.1.up_proj", "shared_expert.up_proj", "gate", "shared_expert_gate")
    }
    return {"model.embed_tokens.weight": (10, 4), **dense, **own, **experts}


def test_layers_of_any_name_are_found() -> None:
    check_tensors("b", CONFIG, gpt2())
    facts = BaseFacts.of("b", {"n_layer": 4}, gpt2())
    assert (facts.layers, facts.is_tied, facts.all_linear) == (4, True, {"c_attn", "c_fc"})


def test_layers_of_several_kinds_are_no_gap() -> None:
    check_tensors("b", CONFIG, moe())


@pytest.mark.parametrize(
    ("lost", "named"),
    [
        ("h.2.mlp.c_fc.weight", "`h.2.mlp.c_fc.weight`"),
        ("h.1.ln_1.weight", "`h.1.ln_1.weight`"),
        ("wte.weight", "the embedding is|`embed_tokens`"),
    ],
)
def test_a_tensor_that_one_layer_lacks_is_named(lost: str, named: str) -> None:
    shapes = {name: shape for name, shape in gpt2().items() if name != lost}
    with pytest.raises(UnsupportedBase, match=named):
        check_tensors("b", CONFIG, shapes)


def test_a_whole_layer_that_is_missing_is_named() -> None:
    with pytest.raises(UnsupportedBase, match=r"lack 3 tensors .*, `h.4.attn.c_attn.weight` first"):
        check_tensors("b", {**CONFIG, "num_hidden_layers": 5}, gpt2())


def test_a_count_of_layers_beyond_all_bounds_is_told_at_once() -> None:
    with pytest.raises(UnsupportedBase, match="lack 3 tensors"):
        check_tensors("b", {**CONFIG, "num_hidden_layers": 10**12}, gpt2())


def test_a_head_of_its_own_is_asked_for() -> None:
    with pytest.raises(UnsupportedBase, match="lm_head"):
        check_tensors("b", {**CONFIG, "tie_word_embeddings": False}, gpt2())
    check_tensors("b", {**CONFIG, "tie_word_embeddings": False}, {**gpt2(), "embed_out.weight": (10, 4)})


def test_experts_are_counted_one_by_one_and_stacked() -> None:
    assert expert_values(moe()) == 3 * 2 * 16
    assert expert_values({"layers.0.block_sparse_moe.input_linear.weight": (8, 4, 4)}) == 128
    assert expert_values({"layers.0.conv.weight": (64, 1, 3), **gpt2()}) == 0


def test_all_linear_leaves_experts_and_routers() -> None:
    facts = BaseFacts.of("b", CONFIG, moe())
    assert facts.all_linear == {"q_proj"}
    check_targets(["q_proj"], facts)
    with pytest.raises(ConfigError, match="PEFT takes `up_proj` for its experts") as caught:
        check_targets(["q_proj", "up_proj"], facts)
    assert caught.value.hint == "--lora-target-modules all-linear"
