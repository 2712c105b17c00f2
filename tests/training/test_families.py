"""Every family gives stock TRL's losses and gradients in the packed forward pass, or is trained by the stock one."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from families import OWN_WAY, PACKED, tiny
from test_shared_prefix import pairs
from test_token_budget import config_for, step, trainer_for
from transformers import AutoModelForCausalLM

from hubdpo.artefacts.folders.model_files import COPIED_FILES
from hubdpo.data.encoded.rows import TokenRows
from hubdpo.hub.open import open_snapshot
from hubdpo.model.bases.files import check_base
from hubdpo.training.families import choose_forward
from hubdpo.training.step.adapters import all_linear
from hubdpo.training.step.checkpointing import checkpointed_layers
from hubdpo.training.step.trainer import SharedPrefixDPOTrainer
from tests.near import assert_same_step


def base_of(family: str, tiny_base: Path, place: Path) -> Path:
    kind, options = {**PACKED, **OWN_WAY}[family][:2]
    if not hasattr(transformers, kind):
        pytest.skip(f"this transformers has no {kind}")
    tiny(kind, options).save_pretrained(place)
    for name in COPIED_FILES:
        if (tiny_base / name).exists():
            shutil.copy(tiny_base / name, place)
    return place


def trainer_of(base: Path, out: Path, *, nf4: bool = False, dtype: str = "float32") -> SharedPrefixDPOTrainer:
    return trainer_for(base, out, "skewed", nf4=nf4, dtype=dtype, checkpoint_layers=None)


def step_of(trainer: SharedPrefixDPOTrainer, shape: str, count: int, *, checkpointing: bool) -> Any:
    """Return loss, metrics and gradients of one pass over the first pairs of a shape."""
    model, batch = trainer.model, trainer.batch(list(pairs(shape, count)))
    toggle = model.gradient_checkpointing_enable if checkpointing else model.gradient_checkpointing_disable
    toggle(**({"gradient_checkpointing_kwargs": {"use_reentrant": False}} if checkpointing else {}))
    model.train()
    model.zero_grad()
    trainer._metrics["train"].clear()
    loss = trainer.compute_loss(model, batch)
    loss.backward()
    metrics = {name: values for name, values in trainer._metrics["train"].items() if name != "num_tokens"}
    return loss.item(), metrics, {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def assert_packed_like_stock(trainer: SharedPrefixDPOTrainer, cases: list[tuple[str, int, bool]]) -> None:
    def steps() -> list[Any]:
        return [step_of(trainer, shape, count, checkpointing=checkpointing) for shape, count, checkpointing in cases]

    shared = trainer.shared_prefix
    assert shared is not None, trainer.not_shared
    packed = steps()
    assert 0 < shared.packed_tokens < shared.padded_tokens
    trainer.use_stock_forward()
    for found, expected in zip(packed, steps(), strict=True):
        assert_same_step(found, expected)


@pytest.mark.parametrize("family", PACKED)
def test_a_family_gives_what_stock_trl_gives(family: str, tiny_base: Path, tmp_path: Path) -> None:
    base = base_of(family, tiny_base, tmp_path / "base")
    trainer = trainer_of(base, tmp_path)
    facts = check_base(open_snapshot(str(base)))
    assert facts.layers == len(checkpointed_layers(trainer.model.get_base_model())) == 2
    assert {name.rpartition(".")[2] for name in trainer.model.peft_config["default"].target_modules} == facts.all_linear
    config = config_for(tmp_path)
    assert choose_forward(config, trainer, TokenRows.of(pairs("skewed", 8)), None) == (config, None)
    cases = [("skewed", 5, False), ("long prompts", 4, True), ("short prompts", 3, False)]
    assert_packed_like_stock(trainer, cases)
    assert_packed_like_stock(trainer_of(base, tmp_path, nf4=True), [("skewed", 4, True)])


@pytest.mark.parametrize("family", ["llama", "mistral", "gemma2", "exaone4", "mixtral"])
def test_rounding_in_16_bits_is_no_difference(family: str, tiny_base: Path, tmp_path: Path) -> None:
    trainer = trainer_of(base_of(family, tiny_base, tmp_path / "base"), tmp_path, dtype="bfloat16")
    config = config_for(tmp_path)
    assert choose_forward(config, trainer, TokenRows.of(pairs("skewed", 8)), None) == (config, None)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", OWN_WAY)
def test_another_family_runs_the_stock_forward_and_says_why(
    family: str, dtype: str, tiny_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = base_of(family, tiny_base, tmp_path / "base")
    check_base(open_snapshot(str(base)))
    trainer = trainer_of(base, tmp_path, dtype=dtype)
    config, reason = choose_forward(config_for(tmp_path), trainer, TokenRows.of(pairs("skewed", 8)), None)
    assert OWN_WAY[family][2] in str(reason)
    assert not config.shared_prefix
    warnings = capsys.readouterr().err
    assert f"`{trainer.model.config.model_type}` runs TRL's own forward pass" in warnings
    assert str(reason) in warnings
    assert trainer.shared_prefix is trainer.fused_lora is trainer.fused_norms is None
    loss, _, gradients = step_of(trainer, "skewed", 3, checkpointing=True)
    assert loss > 0
    assert gradients


@pytest.mark.parametrize("shared_prefix", [True, False])
def test_the_router_loss_of_a_step_does_not_grow_with_its_passes(
    tiny_base: Path, tmp_path: Path, shared_prefix: bool
) -> None:
    base = base_of("mixtral", tiny_base, tmp_path / "base")
    targets, budget = {"lora_target_modules": ["all-linear"]}, {"tokens_per_batch": 256}
    whole = trainer_for(base, tmp_path, "equal", shared_prefix=shared_prefix, **targets)
    cut = trainer_for(base, tmp_path, "equal", shared_prefix=shared_prefix, **targets, **budget)
    one, several = step(whole), step(cut)
    # the loss of experts is no sum over tokens, so it is only about the same; twice as many passes would double it
    assert several[1]["aux_loss"][0] == pytest.approx(one[1]["aux_loss"][0], rel=0.05)
    assert several[0] == pytest.approx(one[0], rel=0.02)


def test_a_router_loss_that_trl_cannot_compute_is_left_out(
    tiny_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kind, options = PACKED["granitemoe without its loss"]
    PACKED["granitemoe"] = (kind, {**options, "output_router_logits": True, "router_aux_loss_coef": 0.1})
    trainer = trainer_of(base_of("granitemoe", tiny_base, tmp_path / "base"), tmp_path)
    del PACKED["granitemoe"]
    _, reason = choose_forward(config_for(tmp_path), trainer, TokenRows.of(pairs("skewed", 8)), None)
    assert reason is None
    assert "the loss that balances experts is left out" in capsys.readouterr().err
    step_of(trainer, "skewed", 3, checkpointing=False)


def test_a_layer_gets_the_shortest_name_that_no_other_module_has(tiny_base: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_base)
    model.model.layers[1].mlp.q_proj = torch.nn.LayerNorm(4)
    names = all_linear(model)
    assert "q_proj" not in names
    assert "self_attn.q_proj" in names
    assert "k_proj" in names
    assert not [name for name in names if "head" in name]
