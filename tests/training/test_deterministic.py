"""`--deterministic`: kernels with a fixed order of sums, for the length of a run and no longer."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from hubdpo import train
from hubdpo.model.device import CUBLAS_WORKSPACE, deterministic_kernels
from hubdpo.training import train as stage


def state() -> dict[str, object]:
    return {
        "enabled": torch.are_deterministic_algorithms_enabled(),
        "warns only": torch.is_deterministic_algorithms_warn_only_enabled(),
        "fills": torch.utils.deterministic.fill_uninitialized_memory,
        "workspace": os.environ.get(CUBLAS_WORKSPACE),
    }


@pytest.fixture
def own_state(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever a test sets is reset."""
    monkeypatch.delenv(CUBLAS_WORKSPACE, raising=False)
    yield
    torch.use_deterministic_algorithms(False)
    torch.utils.deterministic.fill_uninitialized_memory = True


def options(base: Path, data: Path, run: Path, **more: Any) -> dict[str, Any]:
    return {
        "model_name_or_path": str(base), "dataset": str(data), "output_dir": run, "max_length": 128, "max_steps": 2,
        "per_device_train_batch_size": 2, "gradient_accumulation_steps": 2, "eval_steps": 2, **more,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("workspace", "within"), [(None, ":4096:8"), ("", ":4096:8"), (":16:8", ":16:8"), (":4096:8", ":4096:8")]
)
@pytest.mark.parametrize(
    ("enabled", "warns", "fills"), [(False, False, True), (True, True, False), (True, False, True)]
)
def test_the_state_is_as_before_also_after_an_error(
    own_state: None, monkeypatch: pytest.MonkeyPatch, workspace: str | None, within: str, enabled: bool, warns: bool,
    fills: bool,
) -> None:  # fmt: skip
    if workspace is not None:
        monkeypatch.setenv(CUBLAS_WORKSPACE, workspace)
    torch.use_deterministic_algorithms(enabled, warn_only=warns)
    torch.utils.deterministic.fill_uninitialized_memory = fills
    before = state()
    with deterministic_kernels():
        assert state() == {"enabled": True, "warns only": False, "fills": False, "workspace": within}
    assert state() == before
    with pytest.raises(ZeroDivisionError), deterministic_kernels():
        raise ZeroDivisionError
    assert state() == before


@pytest.mark.parametrize(("more", "expected"), [({}, False), ({"deterministic": True}, True)])
def test_the_option_holds_for_the_run(
    more: dict[str, Any], expected: bool, tiny_base: Path, dataset_dir: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, own_state: None,
) -> None:  # fmt: skip
    before, seen = state(), []
    monkeypatch.setattr(stage, "train", lambda config, common, journal: seen.append(state()["enabled"]))
    train(**options(tiny_base, dataset_dir, tmp_path / "run", **more))
    assert seen == [expected]
    assert state() == before


@pytest.mark.slow
@pytest.mark.parametrize(
    "more",
    [
        {},
        {"shared_prefix": False},
        {"reference": "cached", "tokens_per_batch": 256, "checkpoint_layers": 1, "dequantize_once": True},
    ],
    ids=["default", "padded", "fast"],
)
def test_every_part_of_a_run_has_a_deterministic_kernel_and_the_adapter_is_the_same(
    tiny_base: Path, dataset_dir: Path, tmp_path: Path, more: dict[str, Any]
) -> None:
    """PyTorch raises for an operation that has none, on a CPU as well."""
    hashes = set()
    for deterministic in (True, False):
        run = tmp_path / str(deterministic)
        manifest = train(**options(tiny_base, dataset_dir, run, deterministic=deterministic, **more))
        assert manifest.config["deterministic"] is deterministic
        hashes.add(hashlib.sha256((run / "adapter_model.safetensors").read_bytes()).hexdigest())
    assert len(hashes) == 1
