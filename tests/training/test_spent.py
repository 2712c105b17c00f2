"""Time, tokens and memory of a run that was resumed are those of all its starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import TrainerControl, TrainerState, TrainingArguments

from hubdpo.training.step import spent as module
from hubdpo.training.step.spent import Spent, Total

BEFORE = {"seconds": 100.0, "tokens": 3_000, "peak_bytes": 2**60}


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time now; every clock of the module shows it."""
    now = [50.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(module, "peak_bytes", lambda device: 2**30)
    return now


def begun(folder: Path, state: TrainerState) -> Spent:
    spent = Spent()
    spent.on_train_begin(TrainingArguments(output_dir=str(folder), use_cpu=True), state, TrainerControl())
    return spent


def resumed(folder: Path, attributes: dict[str, Any] | None, *, step: int = 4) -> Spent:
    """Return what a run begins with that goes on from a checkpoint which kept these."""
    kept: Any = {} if attributes is None else {"Spent": {"args": {}, "attributes": attributes}}
    return begun(folder, TrainerState(global_step=step, stateful_callbacks=kept))


def test_a_first_start_has_its_own_time_and_tokens(tmp_path: Path, clock: list[float]) -> None:
    spent = begun(tmp_path, TrainerState())
    spent.tokens, clock[0] = 7, 53.0
    assert spent.total == Total(3.0, 7, 2**30)
    assert not spent.is_resumed


def test_a_resumed_run_goes_on_from_its_checkpoint(tmp_path: Path, clock: list[float]) -> None:
    spent = resumed(tmp_path, BEFORE)
    spent.tokens, clock[0] = 7, 53.0
    assert spent.total == Total(103.0, 3_007, 2**60)
    assert (spent.seconds, spent.is_resumed) == (3.0, True)


def test_a_third_start_goes_on_from_what_the_second_saved(tmp_path: Path, clock: list[float]) -> None:
    second = resumed(tmp_path, BEFORE)
    second.tokens, clock[0] = 7, 53.0
    third = begun(tmp_path, TrainerState(global_step=5, stateful_callbacks={"Spent": second.state()}))  # type: ignore[arg-type]
    third.tokens, clock[0] = 2, 54.0
    assert third.total == Total(104.0, 3_009, 2**60)


def test_what_no_checkpoint_kept_is_not_known_in_later_ones_either(tmp_path: Path) -> None:
    second = resumed(tmp_path, None)
    assert second.total is None
    assert resumed(tmp_path, second.state()["attributes"]).total is None


def test_a_state_without_its_name_can_be_saved_again(tmp_path: Path) -> None:
    state = TrainerState(global_step=4, stateful_callbacks={})  # type: ignore[arg-type]
    begun(tmp_path, state)
    assert "Spent" in state.stateful_callbacks, "transformers looks the name up before it writes"


SUMMED = {"train_runtime": 1.0, "train_samples_per_second": 8.0, "train_steps_per_second": 2.0, "train_loss": 0.1}


def test_the_summary_is_of_all_starts(tmp_path: Path, clock: list[float]) -> None:
    spent = resumed(tmp_path, BEFORE)
    clock[0] = 150.0
    history = [{"step": 2.0, "loss": 0.9}, {"step": 10.0, "loss": 0.4}]
    found = spent.summary(SUMMED, TrainerState(global_step=10, log_history=history), pairs_a_step=4)
    assert found == {
        "train_runtime": 200.0, "train_samples_per_second": 0.2, "train_steps_per_second": 0.05,
        "train_loss": pytest.approx((2 * 0.9 + 8 * 0.4) / 10),
    }  # fmt: skip


def test_a_summary_without_the_earlier_time_has_none(tmp_path: Path) -> None:
    found = resumed(tmp_path, None).summary(SUMMED, TrainerState(global_step=10), pairs_a_step=4)
    assert found == {"train_loss": 0.1}
