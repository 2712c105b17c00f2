"""A run that starts from an adapter: the reference is that adapter, frozen, and the rest is TRL's."""

from __future__ import annotations

import itertools
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from hubdpo import train
from hubdpo.artefacts.manifests.run import RunManifest
from hubdpo.config import TrainConfig
from hubdpo.errors import ResumeMismatch
from hubdpo.model.adapters.start import find_start
from hubdpo.model.bases.load import load_base
from hubdpo.training.step.arguments import dpo_config
from hubdpo.training.step.trainer import SharedPrefixDPOTrainer, make_trainer
from tests.near import assert_near
from tests.training.sft import ADAPTER, CONFIG, change, sft_adapter
from tests.training.test_shared_prefix import Prepared, pairs
from tests.training.test_token_budget import step

LN2 = 0.6931471824645996
"""ln 2 in float32."""
STEPS = 20


@pytest.fixture(scope="module")
def start(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sft_adapter(tiny_base, tmp_path_factory.mktemp("sft") / "sft")


def config_for(base: Path, start: Path, out: Path, **more: Any) -> TrainConfig:
    options: dict[str, Any] = {
        "model_name_or_path": str(base), "adapter": str(start), "dataset": "x", "output_dir": out, "max_length": 256,
        "per_device_train_batch_size": 4, "gradient_accumulation_steps": 1, "learning_rate": 1e-3, "beta": 0.5, **more,
    }  # fmt: skip
    return find_start(str(start)).settle(TrainConfig.build(options))


def trainer_for(base: Path, start: Path, out: Path, *, nf4: bool = False, **more: Any) -> SharedPrefixDPOTrainer:
    trainer = make_trainer(
        config_for(base, start, out, load_in_4bit=nf4, **more), load_base(base, device="cpu", load_in_4bit=nf4),
        AutoTokenizer.from_pretrained(base), pairs("skewed", 8), None, device="cpu", steps=STEPS, callbacks=[],
        start=find_start(str(start)),
    )  # fmt: skip
    trainer.current_gradient_accumulation_steps = 1
    return trainer


KINDS: dict[str, dict[str, Any]] = {
    "plain": {}, "rsLoRA": {"use_rslora": True}, "DoRA": {"use_dora": True}, "bfloat16": {"dtype": torch.bfloat16},
    "an expression and ranks of its own": {
        "target_modules": r".*\.(q_proj|v_proj|down_proj)", "rank_pattern": {"q_proj": 2},
        "alpha_pattern": {"v_proj": 3},
    },
}  # fmt: skip


WAYS = [*itertools.product(["plain"], (False, True), (False, True)), *((kind, True, True) for kind in list(KINDS)[1:])]


@pytest.mark.parametrize(("kind", "nf4", "shared"), WAYS)
def test_the_first_loss_is_ln_2_to_the_bit(tiny_base: Path, tmp_path: Path, kind: str, nf4: bool, shared: bool) -> None:
    start = sft_adapter(tiny_base, tmp_path / "sft", **KINDS[kind])
    trainer = trainer_for(tiny_base, start, tmp_path / "run", nf4=nf4, shared_prefix=shared, reference="online")
    loss, metrics, gradients = step(trainer)
    assert loss == LN2
    assert metrics["rewards/margins"] == [0.0]
    assert gradients and all(".default." in name for name in gradients)
    assert any(gradient.abs().max() > 0 for gradient in gradients.values())


def test_losses_beside_trls_take_the_same_reference(tiny_base: Path, start: Path, tmp_path: Path) -> None:
    both = trainer_for(tiny_base, start, tmp_path / "both", loss_type=["sigmoid", "simpo"])
    assert step(both)[1]["rewards/margins"] == [0.0]
    alone = trainer_for(tiny_base, start, tmp_path / "alone", loss_type=["simpo"])
    loss, metrics, _ = step(alone)
    assert list(alone.model.peft_config) == ["default"]
    assert loss != LN2 and metrics["rewards/margins"] != [0.0]


def test_dropout_is_that_of_the_run_and_never_of_the_reference(tiny_base: Path, start: Path, tmp_path: Path) -> None:
    trainer = trainer_for(tiny_base, start, tmp_path / "run", lora_dropout=0.3)
    batch = trainer.batch(next(iter(trainer.get_train_dataloader())))
    trainer.model.train()
    assert trainer.model.peft_config["default"].lora_dropout == 0.3
    passes = [trainer.compute_ref_log_probs(trainer.model, batch)[0] for _ in range(2)]
    assert torch.equal(*passes)
    assert step(trainer)[0] != LN2


def stock(base: Path, start: Path, out: Path, *, reference: str = "frozen") -> Prepared:
    """TRL's trainer of an adapter that PEFT loaded: it copies the adapter, as `ref`."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    trainer = Prepared(
        model=PeftModel.from_pretrained(model, start, is_trainable=True),
        args=dpo_config(config_for(base, start, out), device="cpu", steps=STEPS, evaluates=False),
        train_dataset=pairs("skewed", 8),
        processing_class=AutoTokenizer.from_pretrained(base),
    )
    if reference == "none":
        trainer.model.delete_adapter("ref")  # then TRL disables the adapter
    return trainer


def run(trainer: Any) -> tuple[list[float], dict[str, torch.Tensor]]:
    trainer.args.save_strategy = "no"
    trainer.train()
    losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    return losses, {name: weight.detach() for name, weight in trainer.model.named_parameters() if ".default." in name}


@pytest.mark.parametrize(("reference", "shared"), [("frozen", True), ("frozen", False), ("none", True)])
def test_20_steps_are_those_of_trl(tiny_base: Path, start: Path, tmp_path: Path, reference: str, shared: bool) -> None:
    expected, theirs = run(stock(tiny_base, start, tmp_path / "trl", reference=reference))
    ours = trainer_for(tiny_base, start, tmp_path / "run", reference_adapter=reference, shared_prefix=shared)
    losses, weights = run(ours)
    assert len(losses) == STEPS
    assert (losses[0] == LN2) == (reference == "frozen")
    assert expected[-1] < expected[0] - 0.1
    assert_near(losses, expected, share=1e-5, scale=1, name="losses")
    assert weights.keys() == theirs.keys()
    for name, weight in theirs.items():
        assert_near(weights[name], weight, share=1e-5, scale=1, name=name)


def options(data: Path, start: Path | str, run: Path, **more: Any) -> dict[str, Any]:
    return {
        "dataset": str(data), "adapter": str(start), "output_dir": run, "max_steps": 4, "max_length": 128,
        "learning_rate": 1e-3, "gradient_accumulation_steps": 1, "save_steps": 2, "eval_steps": 2, **more,
    }  # fmt: skip


def metrics(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_a_killed_run_ends_with_the_same_bits_and_never_saves_its_reference(
    tiny_base: Path, start: Path, dataset_dir: Path, tmp_path: Path
) -> None:
    whole = train(**options(dataset_dir, start, tmp_path / "whole"))
    words = [
        f"--{name.replace('_', '-')}={value}" for name, value in options(dataset_dir, start, tmp_path / "run").items()
    ]
    code = "from hubdpo.cli.app import main; main()"
    process = subprocess.Popen([sys.executable, "-c", code, "train", *words], stderr=subprocess.DEVNULL)
    marker = tmp_path / "run" / "checkpoint-2" / "hubdpo-complete.json"
    while not marker.exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    resumed = train(**options(dataset_dir, start, tmp_path / "run"), resume=True)
    assert (tmp_path / "run" / ADAPTER).read_bytes() == (tmp_path / "whole" / ADAPTER).read_bytes()
    assert resumed.files == whole.files | {"metrics.jsonl": resumed.files["metrics.jsonl"]} | {
        name: resumed.files[name] for name in ("plots/curves.png", "eval.json") if name in resumed.files
    }
    assert (tmp_path / "run" / "eval.json").read_bytes() == (tmp_path / "whole" / "eval.json").read_bytes()
    assert metrics(tmp_path / "whole")[0]["loss"] == LN2
    for folder in (tmp_path / "whole", tmp_path / "whole" / "checkpoint-4"):
        assert load_file(folder / ADAPTER).keys() == load_file(start / ADAPTER).keys()
        assert not [path for path in folder.rglob("ref*") if path.name != "README.md"]


@pytest.mark.slow
def test_the_result_is_one_adapter_of_the_same_kind_with_the_evaluation_of_all_three(
    tiny_base: Path, start: Path, dataset_dir: Path, tmp_path: Path
) -> None:
    manifest = train(**options(dataset_dir, start, tmp_path / "run", reference="cached", load_in_4bit=False))
    before, after = (json.loads((folder / CONFIG).read_text()) for folder in (start, tmp_path / "run"))
    same = ("r", "lora_alpha", "peft_type", "task_type")
    assert {name: after[name] for name in same} == {name: before[name] for name in same}
    assert sorted(after["target_modules"]) == sorted(before["target_modules"])
    assert manifest.config["lora_r"] == 4
    assert manifest.config["lora_target_modules"] == ["down_proj", "q_proj", "v_proj"]
    assert manifest.started_from is not None and manifest.started_from.name == "sft"
    assert metrics(tmp_path / "run")[0]["loss"] == pytest.approx(LN2, abs=1e-7)

    base = AutoModelForCausalLM.from_pretrained(tiny_base, dtype=torch.float32)
    ids = torch.tensor([[5, 6, 7, 8]])
    alone = base(ids).logits
    trained = PeftModel.from_pretrained(base, tmp_path / "run")
    assert trained.peft_config.keys() == {"default"}
    assert (trained(ids).logits - alone).abs().max() > 1e-3


@pytest.mark.slow
def test_another_adapter_is_another_run(tiny_base: Path, start: Path, dataset_dir: Path, tmp_path: Path) -> None:
    chosen = options(dataset_dir, start, tmp_path / "run", max_steps=1, save_steps=1)
    train(**chosen)
    other = sft_adapter(tiny_base, tmp_path / "sft", dtype=torch.bfloat16)
    with pytest.raises(ResumeMismatch, match="adapter to start from") as caught:
        train(**(chosen | {"adapter": str(other), "resume": True}))
    assert f"--adapter {start}" in (caught.value.hint or "")
    with pytest.raises(ResumeMismatch, match="reference_adapter"):
        train(**chosen, reference_adapter="none", extend=True)


@pytest.mark.slow
def test_two_processes_start_from_the_adapter_as_one_does(
    tiny_base: Path, start: Path, dataset_dir: Path, tmp_path: Path
) -> None:
    change(start, lora_alpha=8.5)  # a number that `--lora-alpha` does not take
    chosen = options(dataset_dir, start, tmp_path / "two", max_steps=2, per_device_train_batch_size=2, num_processes=2)
    manifest = train(**chosen)
    change(start, lora_alpha=7)
    assert metrics(tmp_path / "two")[0]["loss"] == LN2
    assert manifest.config["lora_alpha"] == 8.5
    assert RunManifest.read(tmp_path / "two" / "run.json").started_from == manifest.started_from
