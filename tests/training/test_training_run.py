"""The train stage on a tiny NF4 base: its files, its refusals, kills and resumes."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from families import QWEN2_PROJECTIONS
from safetensors.torch import load_file

from hubdpo import train
from hubdpo.artefacts.manifests.evaluation import EvalReport
from hubdpo.artefacts.manifests.run import RunManifest
from hubdpo.errors import ConfigError, ResumeMismatch, TrainingError, UnsupportedBase
from hubdpo.training.run.output_folder import mark_complete, newest_checkpoint
from hubdpo.training.step.trainer import Measured
from tests.near import assert_near

pytestmark = pytest.mark.slow
KILLS = int(os.environ.get("HUBDPO_KILLS", "3"))
CODE = "from hubdpo.cli.app import main; main()"


def options(base: str | Path, data: Path, run: Path, **more: Any) -> dict[str, Any]:
    return {
        "model_name_or_path": str(base), "dataset": str(data), "output_dir": run, "max_steps": 6, "max_length": 128,
        "learning_rate": 1e-3, "gradient_accumulation_steps": 1, "save_steps": 2, "eval_steps": 3, **more,
    }  # fmt: skip


def metrics(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_a_run_folder_has_the_promised_files(run_dir: Path) -> None:
    run = RunManifest.read(run_dir / "run.json")
    assert (run.status, run.steps) == ("complete", 4)
    assert EvalReport.read(run_dir / "eval.json").pairs == run.dataset.test_pairs
    assert (run_dir / "plots" / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_metrics_have_the_keys_of_trl(run_dir: Path) -> None:
    logged: set[str] = set().union(*metrics(run_dir))
    assert {"step", "loss", "rewards/accuracies", "rewards/margins", "logps/chosen", "logps/rejected"} <= logged
    assert {"eval_loss", "eval_rewards/accuracies"} <= logged


def test_the_adapter_is_float32_on_the_seven_projections(run_dir: Path) -> None:
    weights = load_file(run_dir / "adapter_model.safetensors")
    assert {weight.dtype for weight in weights.values()} == {torch.float32}
    assert {name.split(".")[-3] for name in weights} == set(QWEN2_PROJECTIONS)


def test_the_adapter_names_its_base_by_commit(run_dir: Path, tiny_base_repo: str) -> None:
    config = json.loads((run_dir / "adapter_config.json").read_text())
    run = RunManifest.read(run_dir / "run.json")
    assert config["base_model_name_or_path"] == tiny_base_repo
    assert config["revision"] == run.base.revision
    assert len(config["revision"]) == 40
    assert config["target_modules"] == sorted(QWEN2_PROJECTIONS)
    assert run.base.license == "apache-2.0"


def test_the_tokenizer_is_the_bases_unchanged(run_dir: Path, tiny_base: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        assert (run_dir / name).read_bytes() == (tiny_base / name).read_bytes()


def test_no_pickle_is_left_beside_the_adapter(run_dir: Path) -> None:
    assert not [path.name for path in run_dir.iterdir() if path.suffix in (".bin", ".pt", ".pth", ".pkl")]


def test_no_card_is_there_before_push_writes_it(tiny_base: Path, dataset_dir: Path, tmp_path: Path) -> None:
    train(**options(tiny_base, dataset_dir, tmp_path / "run", max_steps=1, save_steps=1))
    assert list((tmp_path / "run").glob("checkpoint-*"))
    assert not list((tmp_path / "run").rglob("README.md"))


def test_the_manifest_names_no_path_of_this_machine(run_dir: Path, dataset_dir: Path) -> None:
    text = (run_dir / "run.json").read_text()
    assert str(dataset_dir.parent) not in text
    assert str(run_dir.parent) not in text


def test_the_shared_prefix_gives_the_losses_of_stock_trl(tiny_base: Path, dataset_dir: Path, tmp_path: Path) -> None:
    losses = []
    for shared in (True, False):
        run = tmp_path / str(shared)
        train(**options(tiny_base, dataset_dir, run, shared_prefix=shared))
        losses.append([line["loss"] for line in metrics(run) if "loss" in line])
    assert len(losses[0]) == 6
    assert_near(losses[0][0], losses[1][0], share=1e-5, scale=1)
    # rounding grows from step to step, as Adam divides by the root of tiny squares
    assert_near(losses[0], losses[1], share=1e-4, scale=1)


def test_weights_dequantised_once_give_the_same_adapter(tiny_base: Path, dataset_dir: Path, tmp_path: Path) -> None:
    for once in (True, False):
        train(**options(tiny_base, dataset_dir, tmp_path / str(once), dequantize_once=once))
    name = "adapter_model.safetensors"
    assert (tmp_path / "True" / name).read_bytes() == (tmp_path / "False" / name).read_bytes()


def test_a_run_killed_again_and_again_ends_as_if_it_had_not_been(
    tiny_base: Path, dataset_dir: Path, tmp_path: Path
) -> None:
    """HUBDPO_KILLS sets how often; a checkpoint is written at every step, so many kills fall into one."""
    whole, killed, steps = tmp_path / "whole", tmp_path / "killed", 8 * KILLS
    chosen = {"max_steps": steps, "save_steps": 1, "eval_steps": 50, "lora_dropout": 0.1}
    train(**options(tiny_base, dataset_dir, whole, **chosen))
    words = [
        f"--{name.replace('_', '-')}={value}"
        for name, value in options(tiny_base, dataset_dir, killed, **chosen).items()
    ]
    draw = random.Random(0)
    for _ in range(KILLS):
        before = newest_checkpoint(killed)
        command = [sys.executable, "-c", CODE, "train", *words, *(["--resume"] if killed.exists() else [])]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while newest_checkpoint(killed) == before and process.poll() is None:
            time.sleep(0.002)
        time.sleep(draw.uniform(0, 0.3))
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert RunManifest.read(killed / "run.json").status == "running"
    train(**options(tiny_base, dataset_dir, killed, **chosen, resume=True))
    name = "adapter_model.safetensors"
    assert (killed / name).read_bytes() == (whole / name).read_bytes()
    assert [line["step"] for line in metrics(killed) if "loss" in line] == list(range(1, steps + 1))


def test_a_run_whose_newest_checkpoint_is_damaged_goes_on_from_the_one_before(
    tiny_base: Path, dataset_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """transformers goes on without the state of the optimizer when the file is missing."""
    whole, damaged = tmp_path / "whole", tmp_path / "damaged"
    chosen = {"max_steps": 4, "save_steps": 1, "save_total_limit": 3, "eval_steps": 50, "lora_dropout": 0.1}
    train(**options(tiny_base, dataset_dir, whole, **chosen))
    shutil.copytree(whole, damaged)
    run = RunManifest.read(damaged / "run.json")
    run.model_copy(update={"status": "running"}).write(damaged / "run.json")
    (damaged / "checkpoint-4" / "optimizer.pt").unlink()
    (damaged / "checkpoint-3" / "scheduler.pt").write_bytes(
        bytes((damaged / "checkpoint-3" / "scheduler.pt").stat().st_size)
    )
    (damaged / "adapter_model.safetensors").unlink()
    capsys.readouterr()
    train(**options(tiny_base, dataset_dir, damaged, **chosen, resume=True))
    told = " ".join(capsys.readouterr().err.split())
    assert "checkpoint-4` is damaged (`optimizer.pt` is missing) and is ignored; `checkpoint-2` before it" in told
    assert "checkpoint-3` is damaged (`scheduler.pt` was changed after it was written)" in told
    name = "adapter_model.safetensors"
    assert (damaged / name).read_bytes() == (whole / name).read_bytes()
    assert [line["step"] for line in metrics(damaged) if "loss" in line] == [1, 2, 3, 4]


def test_a_checkpoint_without_its_marker_is_not_trusted(tmp_path: Path) -> None:
    for step, whole in ((2, True), (10, True), (12, False)):
        (tmp_path / f"checkpoint-{step}").mkdir()
        if whole:
            mark_complete(tmp_path / f"checkpoint-{step}", step)
    assert newest_checkpoint(tmp_path) == (tmp_path / "checkpoint-10", 10)


def test_other_options_cannot_be_resumed(run_dir: Path, tiny_base_repo: str, dataset_dir: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(run_dir, tmp_path / "run"))
    with pytest.raises(ResumeMismatch, match="beta"):
        train(
            **options(tiny_base_repo, dataset_dir, run, max_steps=4, save_steps=2, eval_steps=2, beta=0.3, resume=True)
        )


def test_a_finished_run_is_not_trained_over(run_dir: Path, tiny_base_repo: str, dataset_dir: Path) -> None:
    before = (run_dir / "adapter_model.safetensors").read_bytes()
    with pytest.raises(ConfigError, match="finished run"):
        train(**options(tiny_base_repo, dataset_dir, run_dir))
    assert (run_dir / "adapter_model.safetensors").read_bytes() == before


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model_type": "qwen2_vl", "vision_config": {}}, "`qwen2_vl` model, which reads images"),
        ({"model_type": "gemma3"}, "`gemma3` model, which reads images"),
        ({"model_type": "llava_llama", "vision_config": {}}, "`llava_llama` model, which reads images"),
        ({"model_type": "qwen2_audio", "audio_config": {}}, "`qwen2_audio` model, which reads sound"),
        ({"model_type": "llama99"}, "`llama99` model, which transformers .* does not know as a causal"),
        ({"model_type": "t5", "is_encoder_decoder": True}, "`t5` model, which has an encoder"),
        ({"model_type": "bart"}, "`bart` model, which has an encoder"),
        ({"model_type": "bert"}, "`bert` model, which reads text in both directions"),
        ({"model_type": "own", "auto_map": {"AutoModel": "own.Own"}}, "only with code from its repo"),
        ({}, "of no type"),
    ],
)
def test_a_base_that_is_not_supported_is_refused_with_the_reason(
    dataset_dir: Path, tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "config.json").write_text(json.dumps(settings))
    with pytest.raises(UnsupportedBase, match=message) as caught:
        train(**options(tmp_path / "base", dataset_dir, tmp_path / "run"))
    assert "Qwen2" in (caught.value.hint or "")
    assert not (tmp_path / "run").exists()


def test_a_loss_that_is_not_finite_stops_the_run(
    tiny_base: Path, dataset_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors.torch import save_file

    base = Path(shutil.copytree(tiny_base, tmp_path / "base"))
    weights = load_file(base / "model.safetensors")
    weights["model.norm.weight"] *= float("inf")
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
    monkeypatch.setattr("hubdpo.training.train.preflight", lambda *args, **kwargs: Measured(None, None, None))
    with pytest.raises(TrainingError, match=r"step 1, in rows (\d+, ){3}\d+ of the train split"):
        train(**options(base, dataset_dir, tmp_path / "run"))
    assert RunManifest.read(tmp_path / "run" / "run.json").status == "running"


def test_without_a_test_split_there_is_no_report(tiny_base: Path, tmp_path: Path) -> None:
    from hubdpo import prepare

    raw = tmp_path / "raw.jsonl"
    raw.write_text("".join(f'{{"prompt": "p{i}", "chosen": "good {i}", "rejected": "bad"}}\n' for i in range(8)))
    prepare(source=[str(raw)], output_dir=tmp_path / "data", test_size=0)
    train(**options(tiny_base, tmp_path / "data", tmp_path / "run", max_steps=1))
    assert not (tmp_path / "run" / "eval.json").exists()
