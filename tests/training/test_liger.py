"""Liger's kernels: in training passes alone, with the model's own numbers, and gone after them."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from test_token_budget import step, trainer_for
from transformers import GPT2Config, GPT2LMHeadModel
from transformers.models.qwen2 import modeling_qwen2

from hubdpo import train
from hubdpo.artefacts.manifests.run import RunManifest
from hubdpo.errors import ConfigError, UnsupportedBase
from hubdpo.training.step.liger import LigerKernels, of_family
from hubdpo.training.step.trainer import SharedPrefixDPOTrainer
from tests.near import assert_near, assert_same_step

STAND_IN = Path(__file__).parent / "stand_in"
PACKAGE = "liger_kernel.transformers.monkey_patch"
ADAPTER = "adapter_model.safetensors"
RUN: dict[str, Any] = {
    "max_steps": 2, "max_length": 128, "learning_rate": 1e-3, "load_in_4bit": False, "save_steps": 1,
}  # fmt: skip


@pytest.fixture
def liger(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(STAND_IN)
    yield importlib.import_module(PACKAGE)
    for name in [name for name in sys.modules if name.partition(".")[0] == "liger_kernel"]:
        del sys.modules[name]


@pytest.fixture
def on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the option through on a machine without a GPU, where the stand-in runs."""
    monkeypatch.setattr("hubdpo.training.start.check_needs", lambda *args, **kwargs: None)
    monkeypatch.setattr("hubdpo.training.train.check_needs", lambda *args, **kwargs: None)


def state(trainer: SharedPrefixDPOTrainer) -> list[dict[str, Any]]:
    return [dict(vars(modeling_qwen2)), *(dict(vars(part)) for part in trainer.model.modules())]


def test_without_a_gpu_it_is_refused(tiny_base: Path, dataset_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="`--use-liger-kernel` needs a CUDA device") as caught:
        train(tiny_base, dataset_dir, tmp_path / "run", use_liger_kernel=True, device="cpu")
    assert caught.value.hint == "--no-use-liger-kernel"


def test_without_the_package_it_is_refused(
    tiny_base: Path, dataset_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hubdpo.training.start.cuda_is_possible", lambda: True)
    with pytest.raises(ConfigError, match="`--use-liger-kernel` needs its package") as caught:
        train(tiny_base, dataset_dir, tmp_path / "run", use_liger_kernel=True)
    assert caught.value.hint == "pip install liger-kernel"


def test_a_family_that_liger_does_not_know_is_refused(liger: Any) -> None:
    with pytest.raises(UnsupportedBase, match="no kernels for the layers of a `glm` model") as caught:
        of_family("glm")
    assert caught.value.hint == "--no-use-liger-kernel"


def test_a_family_is_refused_before_its_weights_are_loaded(
    liger: Any, on_cpu: None, tiny_base: Path, dataset_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    liger.MODEL_TYPE_TO_APPLY_LIGER_FN.clear()
    monkeypatch.setattr("hubdpo.training.common.load_base", lambda *args, **kwargs: pytest.fail("weights were loaded"))
    with pytest.raises(UnsupportedBase, match="no kernels for the layers of a `qwen2` model"):
        train(tiny_base, dataset_dir, tmp_path / "run", use_liger_kernel=True, **RUN)


def test_a_family_whose_layers_liger_leaves_alone_is_refused(liger: Any) -> None:
    model = GPT2LMHeadModel(GPT2Config(n_embd=8, n_layer=1, n_head=1, vocab_size=8))
    with pytest.raises(UnsupportedBase, match="no kernels for the layers of a `gpt2` model"):
        LigerKernels(model)


def test_a_package_that_cannot_be_imported_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "liger_kernel").mkdir()
    (tmp_path / "liger_kernel" / "__init__.py").write_text("raise ImportError('needs transformers 9')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match="cannot be used: ImportError: needs transformers 9") as caught:
        of_family("qwen2")
    assert caught.value.hint == "pip install -U liger-kernel, or --no-use-liger-kernel"


def test_what_liger_changed_is_taken_back_and_put_on_for_a_while(
    liger: Any, tiny_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer = trainer_for(tiny_base, tmp_path, "skewed")
    before = state(trainer)
    kernels = LigerKernels(trainer.model.get_base_model())
    assert state(trainer) == before
    assert "kernels   of Liger in 2 Qwen2MLP, apply_rotary_pos_emb" in capsys.readouterr().err
    with contextlib.suppress(ValueError), kernels.on(), kernels.on():
        assert modeling_qwen2.apply_rotary_pos_emb is liger.rotary
        raise ValueError
    assert state(trainer) == before


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("shared_prefix", [False, True])
def test_a_step_is_the_one_without_and_runs_every_layer_in_liger(
    liger: Any, tiny_base: Path, tmp_path: Path, shared_prefix: bool, checkpointing: bool
) -> None:
    def taken(**options: Any) -> Any:
        trainer = trainer_for(
            tiny_base, tmp_path, "skewed", gradient_checkpointing=checkpointing, shared_prefix=shared_prefix, **options
        )
        if checkpointing:
            trainer.model.gradient_checkpointing_enable(trainer.args.gradient_checkpointing_kwargs)
        return step(trainer)

    own = taken()
    assert not liger.calls
    found = taken(use_liger_kernel=True)
    assert_same_step(found, own)
    # 2 layers in the forward passes of policy and reference, and in what backward recomputes
    assert liger.calls == {"mlp": 4 + 2 * checkpointing, "rotary": 4 + 2 * checkpointing}


def test_the_reference_rounds_as_the_policy_does(liger: Any, tiny_base: Path, tmp_path: Path) -> None:
    trainer = trainer_for(tiny_base, tmp_path, "skewed", use_liger_kernel=True)
    batch = trainer.batch(list(trainer.train_dataset))
    trainer.model.eval()
    trainer.compute_ref_log_probs(trainer.model, batch)
    assert not liger.calls
    trainer.model.train()
    trainer.compute_ref_log_probs(trainer.model, batch)
    assert liger.calls["mlp"] == 2


def test_a_run_has_the_adapter_of_a_run_without_and_leaves_nothing(
    liger: Any, on_cpu: None, tiny_base: Path, dataset_dir: Path, tmp_path: Path
) -> None:
    before = dict(vars(modeling_qwen2))
    train(tiny_base, dataset_dir, tmp_path / "liger", use_liger_kernel=True, **RUN)
    assert dict(vars(modeling_qwen2)) == before
    assert RunManifest.read(tmp_path / "liger" / "run.json").config["use_liger_kernel"] is True
    assert liger.calls["mlp"] > 2 * 2 * 4 * 2  # 2 layers, 2 steps of 4 passes, policy and reference
    liger.calls.clear()
    train(tiny_base, dataset_dir, tmp_path / "own", **RUN)
    assert not liger.calls
    found, own = (load_file(tmp_path / name / ADAPTER) for name in ("liger", "own"))
    for name, weight in own.items():
        assert_near(found[name], weight, share=1e-3, name=name)


def test_kernels_that_compute_something_else_are_refused(
    liger: Any, on_cpu: None, tiny_base: Path, dataset_dir: Path, tmp_path: Path
) -> None:
    liger.stretched = True
    before = dict(vars(modeling_qwen2))
    with pytest.raises(UnsupportedBase, match="change the log-probs of a `qwen2` model by") as caught:
        train(tiny_base, dataset_dir, tmp_path / "run", use_liger_kernel=True, **RUN)
    assert caught.value.hint == "--no-use-liger-kernel"
    assert not (tmp_path / "run" / "run.json").exists()
    assert dict(vars(modeling_qwen2)) == before
