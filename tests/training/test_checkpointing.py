"""Fewer layers are recomputed when memory allows, and nothing else changes."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from test_shared_prefix import pairs
from test_token_budget import config_for, options, trainer_for

from hubdpo import train
from hubdpo.artefacts.manifests.run import RunManifest
from hubdpo.data.encoded.rows import TokenRows
from hubdpo.demo.tiny_base import make_tiny_base
from hubdpo.errors import ConfigError
from hubdpo.model import memory
from hubdpo.model.memory import kept_bytes
from hubdpo.training import preflight
from hubdpo.training.step.trainer import SharedPrefixDPOTrainer

LAYERS = 4


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_base(tmp_path_factory.mktemp("base") / "four-layers", num_layers=LAYERS)


def one_step(trainer: SharedPrefixDPOTrainer, count: int | None = None) -> tuple[torch.Tensor, list[torch.Tensor], Any]:
    """Return loss, gradients, and how often each layer ran; with `count` layers recomputed."""
    if trainer.recomputed is not None and count is not None:
        trainer.recomputed.count = count
    ran = [0] * LAYERS

    def note(mlp: torch.nn.Module, args: Any) -> None:
        ran[mlps.index(mlp)] += 1

    mlps = [layer.mlp for layer in trainer.model.get_base_model().model.layers]
    hooks = [mlp.register_forward_pre_hook(note) for mlp in mlps]
    if trainer.args.gradient_checkpointing:
        trainer.model.gradient_checkpointing_enable(trainer.args.gradient_checkpointing_kwargs)
    trainer.create_optimizer()
    trainer.model.zero_grad()
    torch.manual_seed(5)
    batch = list(trainer.train_dataset)
    trainer.begin_step([batch])
    loss = trainer.training_step(trainer.model, batch)
    for hook in hooks:
        hook.remove()
    return loss, [p.grad.clone() for p in trainer.model.parameters() if p.grad is not None], ran


@pytest.mark.parametrize(
    ("nf4", "shared_prefix", "more"),
    [
        *((*both, {}) for both in itertools.product((False, True), repeat=2)),
        (True, True, {"lora_dropout": 0.1}),
        (True, True, {"tokens_per_batch": 256}),
        (False, False, {"tokens_per_batch": 512}),
    ],
)
def test_loss_and_gradients_are_equal_to_the_bit_whatever_is_recomputed(
    base: Path, tmp_path: Path, nf4: bool, shared_prefix: bool, more: dict[str, Any]
) -> None:
    chosen = {"nf4": nf4, "shared_prefix": shared_prefix, **more}
    none, some = (
        trainer_for(base, tmp_path, "skewed", **chosen, **way)
        for way in ({"gradient_checkpointing": False}, {"checkpoint_layers": LAYERS})
    )
    loss, gradients, passes = one_step(none)
    assert any(gradient.abs().max() > 0 for gradient in gradients)
    for count in (LAYERS, 1, 0):
        found, others, ran = one_step(some, count)
        assert torch.equal(found, loss)
        assert all(map(torch.equal, others, gradients))
        # policy and reference ran each layer once; backward the first ones again
        assert ran == [both + both // 2 * (place < count) for place, both in enumerate(passes)]


def test_every_kept_layer_takes_the_same_memory(base: Path, tmp_path: Path) -> None:
    trainer = trainer_for(base, tmp_path, "skewed", checkpoint_layers=LAYERS)
    kept = [kept_bytes(lambda: one_step(trainer, count), trainer.model) for count in range(LAYERS, -1, -1)]  # noqa: B023
    steps = [later - earlier for earlier, later in itertools.pairwise(kept)]
    assert min(steps) > 0
    assert max(steps) < 1.1 * min(steps)


def test_shorter_passes_recompute_fewer_in_the_memory_of_the_longest(base: Path, tmp_path: Path) -> None:
    recomputed = trainer_for(base, tmp_path, "skewed", checkpoint_layers=3).recomputed
    assert recomputed is not None
    assert recomputed.layers_for(10) == 3
    recomputed.longest = 1000
    assert [recomputed.layers_for(tokens) for tokens in (1200, 1000, 501, 500, 251, 250, 1)] == [4, 3, 3, 2, 1, 0, 0]
    for tokens in range(1, 1000):
        assert (LAYERS - recomputed.layers_for(tokens)) * tokens <= 1000


@pytest.mark.parametrize(
    ("memory_for", "shared_prefix", "tokens_per_batch"),
    [(0, True, None), (2, True, "auto"), (3, False, None), (100, True, None)],
)
def test_auto_recomputes_as_few_layers_as_memory_allows(
    base: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    memory_for: int,
    shared_prefix: bool,
    tokens_per_batch: Any,
) -> None:
    chosen = {"shared_prefix": shared_prefix, "tokens_per_batch": tokens_per_batch, "checkpoint_layers": "auto"}
    trainer = trainer_for(base, tmp_path, "skewed", **chosen)
    found = {}

    def fitting(taken: int, layer: int, device: str) -> int:
        found.update(taken=taken, layer=layer)
        with monkeypatch.context() as patched:
            patched.setattr(memory, "free_bytes", lambda device: (taken + (memory_for + 0.5) * layer) / memory.SHARE)
            return memory.layers_that_fit(taken, layer, device)

    monkeypatch.setattr(preflight, "layers_that_fit", fitting)
    rows = TokenRows.of(pairs("skewed", 8))
    measured = preflight.preflight(config_for(tmp_path, **chosen), trainer, rows, device="cpu")
    assert measured.checkpoint_layers == max(LAYERS - memory_for, 0)
    assert isinstance(measured.tokens_per_batch, int) == (tokens_per_batch == "auto")
    assert measured.longest_pass
    assert trainer.recomputed is not None
    # measuring leaves the trainer as it was; using what was measured is a step of its own
    assert (trainer.limit.tokens, trainer.recomputed.count, trainer.recomputed.longest) == (None, LAYERS, None)
    trainer.use_limits(measured)
    assert trainer.limit.tokens == measured.tokens_per_batch
    assert trainer.recomputed.count == measured.checkpoint_layers
    assert trainer.recomputed.longest == measured.longest_pass
    # what one layer was said to keep is what one keeps
    trainer.recomputed.longest = None
    kept = [kept_bytes(lambda: one_step(trainer, count), trainer.model) for count in (4, 3)]  # noqa: B023
    assert found["layer"] == pytest.approx(kept[1] - kept[0], rel=0.25)


def test_auto_is_recorded_as_a_number(base: Path, dataset_dir: Path, tmp_path: Path) -> None:
    chosen = options(
        base, dataset_dir, tmp_path / "run", checkpoint_layers="auto", tokens_per_batch="auto", max_steps=1
    )
    run = train(**chosen)
    assert run.config["checkpoint_layers"] == 0  # there is room for all of so small a model
    assert RunManifest.read(tmp_path / "run" / "run.json") == run == train(**chosen, resume=True)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"checkpoint_layers": 2, "gradient_checkpointing": False}, "needs --gradient-checkpointing"),
        ({"checkpoint_layers": -1}, "--checkpoint-layers must be 0 or more"),
        ({"checkpoint_layers": "some"}, "checkpoint-layers"),
        ({"checkpoint_layers": LAYERS + 1}, "more than the 4 layers"),
    ],
)
def test_what_cannot_be_recomputed_is_refused(
    base: Path, dataset_dir: Path, tmp_path: Path, more: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        train(**options(base, dataset_dir, tmp_path / "run", **more))
    assert not (tmp_path / "run").exists()
