"""Preflight, dry run, cached reference log-probs, and several processes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from hubdpo import train
from hubdpo.artefacts.manifests.run import RunManifest
from hubdpo.errors import ArtefactError, ConfigError, MachineError, TrainingError
from hubdpo.training import preflight
from hubdpo.training.step import reference
from hubdpo.training.step.trainer import Measured
from tests.near import assert_near

pytestmark = pytest.mark.slow
CODE = "from hubdpo.cli.app import main; main()"


def options(base: Path, data: Path, run: Path, **more: Any) -> dict[str, Any]:
    return {
        "model_name_or_path": str(base), "dataset": str(data), "output_dir": run, "max_steps": 4, "max_length": 128,
        "learning_rate": 1e-3, "per_device_train_batch_size": 2, "gradient_accumulation_steps": 1, "save_steps": 2,
        "eval_steps": 2, **more,
    }  # fmt: skip


def losses(run: Path) -> list[float]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line]


def assert_like_losses(run: Path, other: Path) -> None:
    """Losses are of order one; rounding grows from step to step, as Adam divides by the root of tiny squares."""
    assert_near(losses(run)[0], losses(other)[0], share=1e-5, scale=1)
    assert_near(losses(run), losses(other), share=1e-4, scale=1)


@pytest.fixture(scope="module")
def plain(tiny_base: Path, dataset_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with nothing special about it."""
    run = tmp_path_factory.mktemp("plain") / "run"
    train(**options(tiny_base, dataset_dir, run))
    return run


@pytest.fixture(scope="module")
def cached(tiny_base: Path, dataset_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run whose reference was cached, and the cache that it made."""
    folder = tmp_path_factory.mktemp("cached")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HUBDPO_CACHE", str(folder / "cache"))
        train(**options(tiny_base, dataset_dir, folder / "run", reference="cached"))
    return folder


@pytest.fixture
def cache(cached: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What that run left in the cache: one file for each split."""
    place = shutil.copytree(cached / "cache", tmp_path / "cache")
    monkeypatch.setenv("HUBDPO_CACHE", str(place))
    assert len(list((place / "reference").iterdir())) == 2
    return place


def test_a_dry_run_leaves_nothing_and_prints_its_memory(
    tiny_base: Path, dataset_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = train(**options(tiny_base, dataset_dir, tmp_path / "run", dry_run=True))
    assert manifest.status == "running"
    assert not list(tmp_path.iterdir())
    assert "preflight 2 longest pairs" in capsys.readouterr().err


def test_the_preflight_does_not_change_the_run(
    plain: Path, tiny_base: Path, dataset_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hubdpo.training.train.preflight", lambda *args, **kwargs: Measured(None, None, None))
    train(**options(tiny_base, dataset_dir, tmp_path / "run"))
    assert (tmp_path / "run" / "adapter_model.safetensors").read_bytes() == (
        plain / "adapter_model.safetensors"
    ).read_bytes()


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("memory", "ran out of memory with 2 pairs"),
        ("loss", "the loss is nan at step 1, in rows"),
        ("disk", "checkpoints: .* are free at"),
    ],
)
def test_what_would_stop_the_run_stops_it_at_once_and_leaves_nothing(
    tiny_base: Path, dataset_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, message: str
) -> None:
    def out_of_memory(*args: Any, **kwargs: Any) -> Any:
        raise torch.OutOfMemoryError("out")

    if what == "memory":
        monkeypatch.setattr("hubdpo.training.step.trainer.SharedPrefixDPOTrainer._compute_loss", out_of_memory)
    elif what == "loss":
        monkeypatch.setattr(
            "trl.DPOTrainer._compute_loss",
            lambda self, model, inputs, return_outputs: torch.full((), torch.nan, requires_grad=True) * 1,
        )
    else:
        monkeypatch.setattr(preflight, "FLOAT", 10**15)
    with pytest.raises((TrainingError, MachineError), match=message) as caught:
        train(**options(tiny_base, dataset_dir, tmp_path / "run"))
    assert caught.value.hint
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("place", ["common.load_base", "train.make_trainer", "train.use_cached_reference"])
def test_out_of_memory_before_the_steps_is_reported_and_leaves_nothing(
    tiny_base: Path, dataset_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.setattr(f"hubdpo.training.{place}", out_of_room)
    with pytest.raises(TrainingError, match="no room for the base|ran out of memory") as caught:
        train(**options(tiny_base, dataset_dir, tmp_path / "run", reference="cached"))
    assert caught.value.hint
    assert not (tmp_path / "run").exists()


def out_of_room(*args: Any, **kwargs: Any) -> Any:
    raise RuntimeError("Triton Error [CUDA]: out of memory")


def test_cached_reference_log_probs_give_the_same_losses_and_adapter(plain: Path, cached: Path) -> None:
    assert_like_losses(cached / "run", plain)
    ours, theirs = (load_file(run / "adapter_model.safetensors") for run in (cached / "run", plain))
    largest = max(weight.norm() for weight in theirs.values())
    for name, weight in theirs.items():
        # Adam divides by the root of tiny squares, so that rounding shows in single weights
        assert (ours[name] - weight).norm() <= 2e-2 * largest, name


def test_a_sweep_computes_the_reference_once(
    cache: Path, tiny_base: Path, dataset_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = cached_files(cache)

    def never(*args: Any) -> Any:
        raise AssertionError("computed again")

    monkeypatch.setattr(reference, "_compute", never)
    train(**options(tiny_base, dataset_dir, tmp_path / "run", reference="cached", learning_rate=1e-4, beta=0.3, seed=7))
    assert cached_files(cache) == files


@pytest.mark.parametrize("change", [{"max_length": 40}, {"load_in_4bit": False}])
def test_the_cache_is_not_read_for_other_tokens_or_weights(
    cache: Path, tiny_base: Path, dataset_dir: Path, tmp_path: Path, change: dict[str, Any]
) -> None:
    train(**options(tiny_base, dataset_dir, tmp_path / "run", reference="cached", **change))
    assert len(cached_files(cache)) == 4


def cached_files(cache: Path) -> list[str]:
    return sorted(path.name for path in (cache / "reference").rglob("*.safetensors"))


def train_in_two_processes(**chosen: Any) -> str:
    named = {name.replace("_", "-"): value for name, value in {**chosen, "num_processes": 2}.items()}
    words = [f"--{name}" if value is True else f"--{name}={value}" for name, value in named.items()]
    done = subprocess.run([sys.executable, "-c", CODE, "train", *words], capture_output=True, text=True, env=os.environ)
    assert done.returncode == 0, done.stderr[-3000:]
    # bitsandbytes 0.49 has one of its own beside torch 2.13
    assert not [line for line in done.stderr.splitlines() if "Warning" in line and "_check_is_size" not in line]
    return done.stdout


def test_two_processes_give_the_losses_of_one(tiny_base: Path, dataset_dir: Path, tmp_path: Path, plain: Path) -> None:
    chosen = options(
        tiny_base, dataset_dir, tmp_path / "run", per_device_train_batch_size=1, per_device_eval_batch_size=5
    )
    said = train_in_two_processes(**chosen)
    assert_like_losses(tmp_path / "run", plain)
    run, alone = (RunManifest.read(folder / "run.json") for folder in (tmp_path / "run", plain))
    assert run.dataset.test_pairs % 10  # so that accelerate repeats pairs to fill the last batch of both
    for name in ("rewards/accuracies", "rewards/margins", "logps/chosen", "logps/rejected"):
        one, other = (float(each.metrics[f"eval_{name}"]) for each in (run, alone))
        # margins are differences of these log-probabilities, after steps in which rounding grew
        assert_near(one, other, share=1e-4, scale=max(1, abs(other)), name=name)
    assert (run.status, run.config["num_processes"]) == ("complete", 2)
    assert said.count("4 steps on") == 1


def test_two_processes_cut_their_passes_alike_and_share_the_work_on_the_reference(
    tiny_base: Path, dataset_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HUBDPO_CACHE", str(tmp_path / "cache"))
    train(**options(tiny_base, dataset_dir, tmp_path / "one", per_device_train_batch_size=8))
    chosen = {"per_device_train_batch_size": 4, "tokens_per_batch": 128, "reference": "cached"}
    train_in_two_processes(**options(tiny_base, dataset_dir, tmp_path / "two", **chosen))
    assert_like_losses(tmp_path / "two", tmp_path / "one")
    assert len(cached_files(tmp_path / "cache")) == 2  # train and test


def test_an_error_in_several_processes_is_reported_once_with_its_hint(
    tiny_base: Path, dataset_dir: Path, tmp_path: Path
) -> None:
    data = Path(shutil.copytree(dataset_dir, tmp_path / "data"))
    next((data / "data").glob("train-*.parquet")).write_bytes(b"edited")  # which only those that load it see
    chosen = options(tiny_base, data, tmp_path / "run", num_processes=2)
    with pytest.raises(ArtefactError, match="was changed after it was written") as caught:
        train(**chosen)
    assert "hubdpo prepare" in (caught.value.hint or "")


def test_a_dry_run_is_of_one_process() -> None:
    with pytest.raises(ConfigError, match="--num-processes"):
        train(model_name_or_path="a/b", dataset="d", output_dir=Path("r"), dry_run=True, num_processes=2)


def test_invalid_schedule_arguments_are_refused_before_the_base_is_loaded(
    tiny_base: Path, dataset_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hubdpo.training.common.load_base", out_of_room)
    wrong = {"lr_scheduler_type": "polynomial", "lr_scheduler_kwargs": {"lr_end": 1.0}}
    with pytest.raises(ConfigError, match="the schedule `polynomial` cannot be made"):
        train(**options(tiny_base, dataset_dir, tmp_path / "run", **wrong))
    assert not (tmp_path / "run").exists()


def test_a_process_leaves_its_group_before_it_ends(tmp_path: Path) -> None:
    code = (
        "import torch.distributed as dist\n"
        "from hubdpo.training.launch.processes import leave_at_exit\n"
        "leave_at_exit()\n"
        f"dist.init_process_group('gloo', init_method='file://{tmp_path}/meet', rank=0, world_size=1)\n"
        "dist.destroy_process_group = lambda leave=dist.destroy_process_group: (leave(), print('left'))\n"
    )
    env = {**os.environ, "WORLD_SIZE": "2"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)
    assert (done.returncode, done.stdout) == (0, "left\n"), done.stderr
