"""Thirty steps in data parallel and under each kind of sharding are those of one process, also after a kill."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from sharded_runs import (
    CURVES,
    STEPS,
    Run,
    Runs,
    dataset,
    in_one_process,
    in_two_processes,
    largest_difference,
    relative_difference,
)

from hubdpo.training.sharding import Sharding

pytestmark = pytest.mark.slow
KINDS = [None, *Sharding]
ZERO = (Sharding.ZERO_2, Sharding.ZERO_3)
NEEDS_DEEPSPEED = pytest.mark.skipif(
    importlib.util.find_spec("deepspeed") is None, reason="DeepSpeed is not installed; `make test-deepspeed` has it"
)
EACH = [
    pytest.param(kind, id=kind or "data parallel", marks=[NEEDS_DEEPSPEED] if kind in ZERO else []) for kind in KINDS
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return dataset(tmp_path_factory.mktemp("sharded-data"))


@pytest.fixture(scope="module")
def alone(tiny_base: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return in_one_process(tiny_base, data, tmp_path_factory.mktemp("alone"))


@pytest.fixture(scope="module")
def parallel(tiny_base: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return in_two_processes(None, tiny_base, data, tmp_path_factory.mktemp("parallel"))


@pytest.fixture(scope="module", params=EACH)
def kind(request: pytest.FixtureRequest) -> Sharding | None:
    found: Sharding | None = request.param
    return found


@pytest.fixture(scope="module")
def runs(
    kind: Sharding | None, parallel: Runs, tiny_base: Path, data: Path, tmp_path_factory: pytest.TempPathFactory
) -> Runs:
    return in_two_processes(kind, tiny_base, data, tmp_path_factory.mktemp("sharded")) if kind else parallel


def test_losses_gradients_and_margins_are_those_of_one_process(runs: Runs, alone: Run) -> None:
    assert sorted(alone.lines()) == list(range(1, STEPS + 1))
    for name in CURVES:
        assert largest_difference(runs.whole, alone, name) < 1e-5, name


def test_the_adapter_and_its_probes_are_those_of_one_process(runs: Runs, alone: Run) -> None:
    assert relative_difference(runs.whole, alone) < 1e-5
    # log-probabilities of a token, a few nats
    assert max(abs(a - b) for a, b in zip(runs.whole.probes(), alone.probes(), strict=True)) < 1e-4


def test_passes_filled_by_tokens_are_those_of_data_parallel(runs: Runs, parallel: Runs) -> None:
    for name in CURVES:
        assert largest_difference(runs.by_tokens, parallel.by_tokens, name) < 1e-5, name
    assert relative_difference(runs.by_tokens, parallel.by_tokens) < 1e-5


def test_a_run_that_was_killed_and_resumed_ends_with_the_same_bits(runs: Runs) -> None:
    assert runs.checkpoints_after_kill == ["checkpoint-10"]
    assert runs.resumed.lines().keys() == runs.whole.lines().keys()
    for name in CURVES:
        assert largest_difference(runs.resumed, runs.whole, name) == 0, name
    adapter = runs.whole.adapter()
    assert all(torch.equal(weight, adapter[name]) for name, weight in runs.resumed.adapter().items())


def test_each_process_holds_its_part_alone(runs: Runs, kind: Sharding | None) -> None:
    for held in runs.held:
        moments, weights = held["moments here"] / held["adapter"], held["weights here"] / held["weights"]
        assert moments == (1.0 if kind is None else 0.5)
        if kind is Sharding.ZERO_3:  # a weight is nowhere whole but the norms and biases, which are small
            assert weights < 0.1
        else:
            assert weights == (0.5 if kind is Sharding.FSDP_2 else 1.0)


def test_the_run_says_what_was_sharded(runs: Runs, kind: Sharding | None) -> None:
    assert runs.whole.manifest()["sharding"] == kind
