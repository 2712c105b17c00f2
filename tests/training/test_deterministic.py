"""`--deterministic`: kernels with a fixed order of sums, for the length of a run and no longer."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from hubdpo import train
from hubdpo.model.device import CUBLAS_WORKSPACE, deterministic_kernels
from hubdpo.training import train as stage

Seen = tuple[bool, str | None]


def state() -> Seen:
    return torch.are_deterministic_algorithms_enabled(), os.environ.get(CUBLAS_WORKSPACE)


def options(base: Path, data: Path, run: Path, **more: Any) -> dict[str, Any]:
    return {
        "model_name_or_path": str(base), "dataset": str(data), "output_dir": run, "max_length": 128, "max_steps": 2,
        "per_device_train_batch_size": 2, "gradient_accumulation_steps": 2, "eval_steps": 2, **more,
    }  # fmt: skip


@pytest.mark.parametrize("before", [None, ":16:8"])
def test_the_state_is_as_before_after_an_error(before: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(CUBLAS_WORKSPACE, raising=False)
    if before is not None:
        monkeypatch.setenv(CUBLAS_WORKSPACE, before)
    with pytest.raises(ZeroDivisionError), deterministic_kernels():
        assert state() == (True, before or ":4096:8")
        raise ZeroDivisionError
    assert state() == (False, before)


def test_a_warning_only_mode_comes_back() -> None:
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        with deterministic_kernels():
            assert not torch.is_deterministic_algorithms_warn_only_enabled()
        assert torch.is_deterministic_algorithms_warn_only_enabled()
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize(("more", "expected"), [({}, False), ({"deterministic": True}, True)])
def test_the_option_holds_for_the_run(
    more: dict[str, Any], expected: bool, tiny_base: Path, dataset_dir: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    seen: list[bool] = []
    monkeypatch.setattr(stage, "train", lambda config: seen.append(state()[0]))
    train(**options(tiny_base, dataset_dir, tmp_path / "run", **more))
    assert seen == [expected]
    assert not state()[0]


@pytest.mark.slow
def test_every_part_of_a_run_has_a_deterministic_kernel_and_the_adapter_is_the_same(
    tiny_base: Path, dataset_dir: Path, tmp_path: Path
) -> None:
    """PyTorch raises for an operation that has none, on a CPU as well."""
    more = {"reference": "cached", "tokens_per_batch": 256, "checkpoint_layers": 1}
    hashes = set()
    for deterministic in (True, False):
        run = tmp_path / str(deterministic)
        manifest = train(**options(tiny_base, dataset_dir, run, deterministic=deterministic, **more))
        assert manifest.config["deterministic"] is deterministic
        hashes.add(hashlib.sha256((run / "adapter_model.safetensors").read_bytes()).hexdigest())
    assert len(hashes) == 1
