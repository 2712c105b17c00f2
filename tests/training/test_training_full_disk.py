"""A full disk during training: one error line, a command that resumes, and the same adapter in the end."""

from __future__ import annotations

import errno
import json
import os
import shlex
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import peft
import pytest
import torch
from safetensors import SafetensorError

from hubdpo import train
from hubdpo.artefacts.manifests.evaluation import Probes
from hubdpo.artefacts.manifests.manifest import PROBES_FILE
from hubdpo.artefacts.manifests.run import RunManifest
from hubdpo.cards.model import plots
from hubdpo.cli.app import app
from hubdpo.errors import MachineError
from hubdpo.training.run import output_folder
from hubdpo.training.run.output_folder import newest_checkpoint
from hubdpo.training.step import reference

pytestmark = pytest.mark.slow
ADAPTER = "adapter_model.safetensors"
FULL = OSError(errno.ENOSPC, "No space left on device")


def options(base: Path, data: Path, run: Path, **more: Any) -> dict[str, Any]:
    return {
        "model_name_or_path": str(base), "dataset": str(data), "output_dir": run, "max_steps": 3, "max_length": 128,
        "learning_rate": 1e-3, "per_device_train_batch_size": 2, "gradient_accumulation_steps": 1, "save_steps": 1,
        "eval_steps": 2, "max_eval_pairs": 2, "lora_dropout": 0.1, **more,
    }  # fmt: skip


def metrics(run: Path) -> list[dict[str, Any]]:
    """What was logged, without seconds and rates."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{name: line[name] for name in line if name in ("step", "loss", "eval_loss", "grad_norm")} for line in lines]


@pytest.fixture(scope="module")
def whole(tiny_base: Path, dataset_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that nothing disturbs."""
    run = tmp_path_factory.mktemp("whole") / "run"
    train(**options(tiny_base, dataset_dir, run))
    return run


@pytest.fixture
def cut(whole: Path, tmp_path: Path) -> Path:
    """The run as a kill after its second step left it."""
    run = Path(shutil.copytree(whole, tmp_path / "run"))
    shutil.rmtree(run / "checkpoint-3")
    for made_last in (ADAPTER, PROBES_FILE, "eval.json"):
        (run / made_last).unlink()
    manifest = RunManifest.read(run / "run.json")
    manifest.model_copy(update={"status": "running"}).write(run / "run.json")
    return run


def full_at_checkpoint(patch: pytest.MonkeyPatch) -> None:
    plain = torch.save

    def save(what: Any, file: Any, *args: Any, **kwargs: Any) -> None:
        if "checkpoint-" in str(file) and "optimizer" in str(file):
            Path(file).write_bytes(b"half")
            raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 640 vs 534") from FULL
        plain(what, file, *args, **kwargs)

    patch.setattr(torch, "save", save)


def full_at_marker(patch: pytest.MonkeyPatch) -> None:
    def write(path: Path, text: str) -> None:
        raise FULL

    patch.setattr(output_folder, "write_atomic", write)


def full_at_metrics(patch: pytest.MonkeyPatch) -> None:
    plain = Path.open

    def half(path: Path, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        if path.name == "metrics.jsonl" and mode == "a":
            with plain(path, mode) as stream:
                stream.write('{"step": 3, "lo')
            raise FULL
        return plain(path, mode, *args, **kwargs)

    patch.setattr(Path, "open", half)


def full_at_adapter(patch: pytest.MonkeyPatch) -> None:
    plain = peft.PeftModel.save_pretrained

    def save(self: Any, folder: Any, *args: Any, **kwargs: Any) -> None:
        if ".adapter-" in str(folder):
            (Path(folder) / ADAPTER).write_bytes(b"half")
            raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
        plain(self, folder, *args, **kwargs)

    patch.setattr(peft.PeftModel, "save_pretrained", save)


def full_when(kind: type[Any], when: Callable[[Any], bool]) -> Callable[[pytest.MonkeyPatch], None]:
    def at(patch: pytest.MonkeyPatch) -> None:
        plain = kind.write

        def write(self: Any, path: Path) -> None:
            if when(self):
                raise FULL
            plain(self, path)

        patch.setattr(kind, "write", write)

    return at


PLACES: dict[str, tuple[Callable[[pytest.MonkeyPatch], None], int]] = {
    "checkpoint": (full_at_checkpoint, 2),
    "the mark of a checkpoint": (full_at_marker, 2),
    "metrics": (full_at_metrics, 2),
    "run.json at the start": (full_when(RunManifest, lambda run: run.status == "running"), 2),
    "adapter": (full_at_adapter, 3),
    "probes": (full_when(Probes, lambda probes: True), 3),
    "run.json at the end": (full_when(RunManifest, lambda run: run.status == "complete"), 3),
}


@pytest.mark.parametrize("place", PLACES)
def test_a_run_resumed_after_a_full_disk_ends_as_an_undisturbed_one(
    place: str, cut: Path, whole: Path, tiny_base: Path, dataset_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill, saved = PLACES[place]
    chosen = options(tiny_base, dataset_dir, cut)
    with monkeypatch.context() as patch:
        fill(patch)
        with pytest.raises(MachineError) as caught:
            train(**chosen, resume=True)
    assert caught.value.message.startswith("the disk is full; free now: ")
    assert caught.value.message.endswith(f"; `{cut / f'checkpoint-{saved}'}` is kept")
    assert RunManifest.read(cut / "run.json").status == "running"
    command = str(caught.value.hint).partition(", then: ")[2]
    app(args=shlex.split(command)[1:], standalone_mode=False)  # what the hint says, pasted
    assert RunManifest.read(cut / "run.json").status == "complete"
    assert (cut / ADAPTER).read_bytes() == (whole / ADAPTER).read_bytes()
    assert (cut / PROBES_FILE).read_bytes() == (whole / PROBES_FILE).read_bytes()
    kept = [line for line in metrics(whole) if len(line) > 1]
    assert [line for line in metrics(cut) if len(line) > 1] == kept
    assert not [path for path in cut.iterdir() if path.name.startswith(".")]


def test_a_file_size_limit_before_the_first_checkpoint_is_reported_and_the_run_starts_again(
    tiny_base: Path, dataset_dir: Path, whole: Path, tmp_path: Path
) -> None:
    """The weights fit, and what AdamW remembers of them does not."""
    chosen = options(tiny_base, dataset_dir, tmp_path / "run")
    weights = (whole / "checkpoint-3" / ADAPTER).stat().st_size
    limit = weights * 3 // 2
    assert limit < (whole / "checkpoint-3" / "optimizer.pt").stat().st_size
    code = (
        f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, resource.getrlimit(1)[1]))\n"
        "from hubdpo.cli.app import main; main()"
    )
    words = [f"--{name.replace('_', '-')}={value}" for name, value in chosen.items()]
    done = subprocess.run([sys.executable, "-c", code, "train", *words], capture_output=True, text=True, timeout=300)
    assert done.returncode == 9, done.stderr
    assert "Traceback" not in done.stderr
    assert "error: no file may be larger than" in done.stderr
    assert "nothing was saved yet (the first checkpoint is at step 1)" in done.stderr
    assert "hint: ulimit -f unlimited, then: the same command starts a new run" in done.stderr
    assert newest_checkpoint(tmp_path / "run") is None
    train(**chosen)
    assert (tmp_path / "run" / ADAPTER).read_bytes() == (whole / ADAPTER).read_bytes()


def test_a_disk_without_room_for_checkpoints_is_refused_before_the_steps(
    tiny_base: Path, dataset_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    little = SimpleNamespace(f_files=0, f_favail=0, f_bavail=3, f_frsize=1000)
    monkeypatch.setattr(os, "statvfs", lambda place: little)
    with pytest.raises(MachineError, match=r"checkpoints: [\d.]+ MB, and 3\.0 kB are free at") as caught:
        train(**options(tiny_base, dataset_dir, tmp_path / "run"))
    assert "--save-total-limit" in (caught.value.hint or "")
    assert not (tmp_path / "run").exists()


def test_reference_log_probs_that_cannot_be_cached_are_still_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(handle: int) -> None:
        raise FULL

    monkeypatch.setattr(os, "fsync", full)
    reference._save(tmp_path / "cache", np.arange(2, dtype=np.uint64), np.zeros(2))
    assert "reference log-probs cannot be cached for later runs: the disk is full" in capsys.readouterr().err
    assert not list((tmp_path / "cache").iterdir())


def test_a_plot_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line = json.dumps({"step": 1, "loss": 0.5}) + "\n"
    (tmp_path / "metrics.jsonl").write_text(line)
    before = plots.write_plots(tmp_path)
    drawn = before.read_bytes()

    def full(self: Path, *args: Any) -> None:
        raise FULL

    (tmp_path / "metrics.jsonl").write_text(line * 2)
    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space"):
        plots.write_plots(tmp_path)
    assert before.read_bytes() == drawn


@pytest.fixture
def strict() -> Iterator[None]:
    before = os.umask(0o077)
    yield
    os.umask(before)


def test_a_run_follows_the_umask(strict: None, tiny_base: Path, dataset_dir: Path, tmp_path: Path) -> None:
    train(**options(tiny_base, dataset_dir, tmp_path / "run", max_steps=1))
    open_to_others = [
        path.relative_to(tmp_path)
        for path in (tmp_path / "run").rglob("*")
        if stat.S_IMODE(path.stat().st_mode) & 0o077
    ]
    assert not open_to_others
