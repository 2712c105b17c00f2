"""How memory is measured, which errors mean out of memory, and that a measured pass is a training pass."""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from hubdpo.data.encoded.rows import Row, TokenRows
from hubdpo.errors import ArtefactError, MachineError, TrainingError
from hubdpo.model import memory
from hubdpo.model.device import compute_dtype
from hubdpo.model.memory import SHARE, is_out_of_memory, out_of_memory_is, tokens_that_fit
from hubdpo.training.preflight import (
    MEASURED_PAIRS,
    _largest_pass,
    _measure_budget,
    _one_step,
    out_of_memory,
    preflight,
)
from hubdpo.training.step.arguments import dpo_config
from hubdpo.training.step.batch import row_length
from hubdpo.training.step.layout import build_layout
from hubdpo.training.step.passes import Limit, packed_tokens
from hubdpo.training.step.trainer import use_cached_reference
from hubdpo.training.train import _own_device
from tests.training.test_token_budget import config_for, pairs, trainer_for

TEXTS = (
    "CUDA out of memory. Tried to allocate 2.00 GiB.",
    "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported",
    "Triton Error [CUDA]: out of memory",
    "HIP out of memory. Tried to allocate 20.00 MiB",
    "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`",
    "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
    "Error out of memory at line 380 in file /src/csrc/ops.cu",
    "[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes.",
    "DefaultCPUAllocator: not enough memory: you tried to allocate 4096 bytes.",
)


@pytest.mark.parametrize("text", TEXTS)
def test_every_library_s_way_of_saying_it_counts_as_out_of_memory(text: str) -> None:
    assert is_out_of_memory(RuntimeError(text))
    assert not is_out_of_memory(ValueError(text))


def test_out_of_memory_is_recognised_by_type_and_by_cause() -> None:
    assert is_out_of_memory(torch.OutOfMemoryError("x"))
    assert is_out_of_memory(MemoryError())
    outer = OSError("cannot load")
    outer.__cause__ = RuntimeError(TEXTS[0])
    assert is_out_of_memory(outer)


@pytest.mark.parametrize(
    "text",
    [
        "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasSgemm`",
        "CUDA error: an illegal memory access was encountered",
        "mat1 and mat2 shapes cannot be multiplied",
    ],
)
def test_other_errors_are_not_taken_for_out_of_memory(text: str) -> None:
    error = RuntimeError(text)
    with pytest.raises(RuntimeError) as caught, out_of_memory_is(lambda: TrainingError("told")):
        raise error
    assert caught.value is error


@pytest.mark.parametrize(
    ("problem", "told"),
    [
        (MemoryError(), MachineError),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"), MachineError),
        (torch.OutOfMemoryError("CUDA out of memory"), TrainingError),
        (RuntimeError("Triton Error [CUDA]: out of memory"), TrainingError),
    ],
)
def test_a_process_limit_is_told_apart_from_a_small_device(
    monkeypatch: pytest.MonkeyPatch, problem: Exception, told: type[Exception]
) -> None:
    plain = resource.getrlimit
    limits = {resource.RLIMIT_AS: (1_500_000, -1)}
    monkeypatch.setattr(resource, "getrlimit", lambda kind: limits.get(kind) or plain(kind))
    with pytest.raises(told) as caught, out_of_memory_is(lambda: TrainingError("told", hint="fewer pairs")):
        raise problem
    assert caught.value.hint.startswith("ulimit -v" if told is MachineError else "fewer pairs")
    limits[resource.RLIMIT_AS] = (-1, -1)
    with pytest.raises(TrainingError), out_of_memory_is(lambda: TrainingError("told")):
        raise problem


def test_an_error_of_ours_passes_through() -> None:
    problem = ArtefactError("gone")
    problem.__cause__ = MemoryError()
    with pytest.raises(ArtefactError, match="gone"), out_of_memory_is(lambda: TrainingError("told")):
        raise problem


@pytest.mark.parametrize(("fixed", "each", "free"), [(0, 1000, 20e6), (3_000_000, 1000, 20e6), (500, 7, 1e5)])
def test_bytes_per_token_are_told_apart_from_fixed_bytes(
    monkeypatch: pytest.MonkeyPatch, fixed: int, each: int, free: float
) -> None:
    monkeypatch.setattr(memory, "free_bytes", lambda device: int(free))
    measured = [(tokens, fixed + each * tokens) for tokens in (100, 200, 400)]
    assert tokens_that_fit(measured, "cpu") == int((SHARE * free - fixed) / each) // 256 * 256


@pytest.mark.parametrize(
    "measured", [[(100, 10**5)], [(100, 10**5), (200, 10**5)], [(100, 10**5), (200, 9 * 10**4)], [(100, 10**5)] * 2]
)
def test_passes_without_a_slope_count_all_their_bytes_for_their_tokens(
    monkeypatch: pytest.MonkeyPatch, measured: list[tuple[int, int]]
) -> None:
    monkeypatch.setattr(memory, "free_bytes", lambda device: 10**7)
    tokens, taken = measured[-1]
    assert tokens_that_fit(measured, "cpu") == int(SHARE * 10**7 * tokens / taken) // 256 * 256


def test_the_budget_holds_at_least_the_longest_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_bytes", lambda device: 1)
    assert tokens_that_fit([(700, 10**9), (1400, 2 * 10**9)], "cpu") == 700


@pytest.fixture
def trainer(tiny_base: Path, tmp_path: Path) -> Any:
    return trainer_for(tiny_base, tmp_path / "run", "skewed", tokens_per_batch="auto")


@pytest.fixture
def rows() -> list[dict[str, list[int]]]:
    return list(TokenRows.of(pairs("skewed", 8)))


def test_the_measuring_pass_runs_under_the_autocast_of_training(
    trainer: Any, rows: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the CPU there is none; it is put in place here, and has to reach the backbone."""
    seen: list[bool] = []
    hook = trainer.model.get_base_model().model.register_forward_pre_hook(
        lambda *_: seen.append(torch.is_autocast_enabled("cpu"))
    )

    @contextlib.contextmanager
    def autocast() -> Iterator[None]:
        with torch.autocast("cpu", torch.bfloat16):
            yield

    monkeypatch.setattr(trainer.accelerator, "autocast", autocast)
    try:
        _one_step(config_for(tmp_path), trainer, rows[:1])
    finally:
        hook.remove()
    assert seen
    assert all(seen)


def test_the_measuring_pass_asks_no_other_device_for_its_random_state(
    trainer: Any, rows: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    fork = torch.random.fork_rng

    def forked(*args: Any, **kwargs: Any) -> Any:
        asked.append(kwargs.get("devices"))
        return fork(*args, **kwargs)

    monkeypatch.setattr(torch.random, "fork_rng", forked)
    state = torch.random.get_rng_state()
    _one_step(config_for(tmp_path), trainer, rows[:1])
    assert asked  # by recomputed layers as well
    assert all(devices == [] for devices in asked)
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("text", [TEXTS[2], TEXTS[4]])
def test_the_measuring_pass_tells_out_of_memory_of_any_library_with_a_hint(
    trainer: Any, rows: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    def failing(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError(text)

    monkeypatch.setattr(trainer, "compute_loss", failing)
    with pytest.raises(TrainingError, match="ran out of memory") as caught:
        _one_step(config_for(tmp_path), trainer, rows[:1])
    assert caught.value.hint


def test_the_preflight_runs_the_longest_pairs(
    trainer: Any, rows: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths: list[int] = []

    def step(config: Any, trainer: Any, rows: Any, **layers: Any) -> None:
        lengths.extend(map(row_length, rows))

    monkeypatch.setattr("hubdpo.training.preflight._one_step", step)
    preflight(config_for(tmp_path, per_device_train_batch_size=3), trainer, TokenRows.of(rows), device="cpu")
    assert lengths == sorted(map(row_length, rows), reverse=True)[:3]


@pytest.mark.parametrize(("fits", "sizes"), [(8, MEASURED_PAIRS), (2, (1, 2)), (1, (1,))])
def test_auto_measures_several_sizes_as_far_as_they_fit(
    trainer: Any, rows: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fits: int, sizes: tuple[int, ...]
) -> None:
    measured: list[list[tuple[int, int]]] = []

    def step(config: Any, trainer: Any, rows: Any) -> None:
        if len(rows) > fits:
            raise TrainingError("the device ran out of memory")

    monkeypatch.setattr("hubdpo.training.preflight._one_step", step)
    monkeypatch.setattr("hubdpo.training.preflight.bytes_of", lambda step, model, device: step() or 100)
    monkeypatch.setattr(
        "hubdpo.training.preflight.tokens_that_fit", lambda found, device, **_: measured.append(found) or 512
    )
    assert _measure_budget(config_for(tmp_path, tokens_per_batch="auto"), trainer, rows, "cpu") == 512
    assert len(measured[0]) == len(sizes)
    assert [tokens for tokens, _ in measured[0]] == sorted({tokens for tokens, _ in measured[0]})


@pytest.mark.parametrize(("capable", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_emulated_bfloat16_is_not_used(monkeypatch: pytest.MonkeyPatch, capable: bool, dtype: torch.dtype) -> None:
    """As on a T4, where PyTorch answers yes unless it is asked about emulation."""
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: capable or including_emulation
    )
    assert compute_dtype("cuda") == dtype
    assert compute_dtype("cpu") == torch.float32


@pytest.mark.parametrize(("visible", "used"), [(0, 0), (1, 1), (4, 1)])
def test_a_process_takes_one_gpu_however_many_it_sees(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, visible: int, used: int
) -> None:
    monkeypatch.setattr("transformers.TrainingArguments.n_gpu", property(lambda self: visible))
    args = dpo_config(config_for(tmp_path), device="cpu", steps=1, evaluates=False)
    assert args._n_gpu == used


@pytest.mark.parametrize(
    ("given", "layers", "hint"),
    [
        ({"checkpoint_layers": 3, "tokens_per_batch": 4096}, 28, "--checkpoint-layers 28"),
        (
            {"checkpoint_layers": 28, "tokens_per_batch": 4096},
            28,
            "--tokens-per-batch 2048",
        ),  # nothing left to recompute
        ({"checkpoint_layers": 3, "tokens_per_batch": 4096}, 0, "--tokens-per-batch 2048"),  # not known yet
    ],
)
def test_the_hint_asks_for_more_layers_while_some_are_kept(
    given: dict[str, int], layers: int, hint: str, tmp_path: Path
) -> None:
    config = config_for(tmp_path, **given)
    assert out_of_memory(config, layers=layers).hint == hint
    assert out_of_memory(config, layers=layers, resume=True).hint == f"{hint} --resume"


def test_the_pass_that_is_tried_is_as_full_as_any_of_the_run(trainer: Any, tmp_path: Path) -> None:
    def row(tokens: int) -> Row:
        ids = list(range(10, 10 + tokens))
        return {"prompt_ids": ids[: tokens // 2], "chosen_ids": ids[tokens // 2 :], "rejected_ids": [5]}

    rows = TokenRows.of([row(tokens) for tokens in (90, 80, 70, 30, 20, 10, 9)])
    trainer.limit = Limit(tokens=150)
    config = config_for(tmp_path, per_device_train_batch_size=4)
    largest = _largest_pass(config, trainer, rows, 150)
    # 91 of the longest, then the next that fit beside it: 31, 21; and no more than a step has
    assert sum(packed_tokens([row]) for row in largest) == 91 + 31 + 21
    config = config.model_copy(update={"per_device_train_batch_size": 2})
    assert len(_largest_pass(config, trainer, rows, 150)) == 2


def test_each_split_gets_the_reference_of_its_policys_mode(
    trainer: Any, rows: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer.eval_dataset = trainer.train_dataset
    seen: list[tuple[bool, object]] = []

    def noted(trainer: Any, rows: list[Any], *, identity: dict[str, object], once: Any) -> list[Any]:
        seen.append((trainer.model.training, identity["fused"]))
        return rows

    monkeypatch.setattr("hubdpo.training.step.trainer.add_reference_log_probs", noted)
    use_cached_reference(trainer, {"base": "b"})
    assert seen == [(False, False), (True, True)]


def test_policy_and_reference_of_a_pass_share_one_layout(
    trainer: Any, rows: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[int] = []
    monkeypatch.setattr(
        "hubdpo.training.step.trainer.build_layout", lambda *args: built.append(1) or build_layout(*args)
    )
    before = trainer.shared_prefix.packed_tokens
    for count in (1, 2):
        _one_step(config_for(tmp_path), trainer, rows[:count])
    assert len(built) == 2
    lengths = [packed_tokens(rows[:count]) for count in (1, 2)]
    assert trainer.shared_prefix.packed_tokens - before == 2 * sum(lengths)  # once for each of the two models


@pytest.mark.parametrize(("visible", "said"), [(1, False), (4, True)])
def test_unused_gpus_are_hinted_at(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], visible: int, said: bool
) -> None:
    monkeypatch.setattr("hubdpo.training.train.pick_device", lambda wanted: "cuda")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: visible)
    assert _own_device("auto") == "cuda"
    assert ("`--num-processes 4`" in capsys.readouterr().err) == said
