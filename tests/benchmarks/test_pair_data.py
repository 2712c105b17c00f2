"""The data of the benchmarks is what their tables call it."""

from __future__ import annotations

from pathlib import Path

import pytest

from hubdpo.config import TrainConfig
from tests.benchmarks import peers
from tests.benchmarks.pair_data import GROUPED, apart, by_length, prompts, rows


@pytest.mark.parametrize("shape", GROUPED)
def test_all_pairs_of_a_prompt_have_its_answers(shape: str) -> None:
    kind, groups = GROUPED[shape], prompts(shape, 3)
    assert [len(group) for group in groups] == 3 * [kind.answers * (kind.answers - 1) // 2]
    for group in groups:
        assert len({tuple(row["prompt_ids"]) for row in group}) == 1
        answers = {tuple(row[side]) for row in group for side in ("chosen_ids", "rejected_ids")}
        assert len(answers) == kind.answers


def test_a_shuffled_batch_has_no_prompt_twice_and_the_batches_every_pair_once() -> None:
    groups = prompts("UltraFeedback-like", 8)
    batches = apart(groups, 8)
    for batch in batches:
        assert len({tuple(row["prompt_ids"]) for row in batch}) == len(batch) == 8
    assert {id(row) for batch in batches for row in batch} == {id(row) for group in groups for row in group}


def test_batches_by_length_hold_every_pair_once() -> None:
    data = rows("HH-RLHF-like", 9)
    batches = by_length(data, 4)
    assert [len(batch) for batch in batches] == [4, 4, 1]
    assert {id(row) for batch in batches for row in batch} == {id(row) for row in data}


def test_a_peer_that_fails_shows_its_last_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "python").write_text("#!/bin/sh\necho it has no module of that name >&2\nexit 1\n")
    (tmp_path / "python").chmod(0o755)
    monkeypatch.setattr(peers, "PYTHON", tmp_path / "python")
    config = TrainConfig.build({"model_name_or_path": "x/y", "dataset": "x", "output_dir": tmp_path / "run"})
    with pytest.raises(RuntimeError, match="no module of that name"):
        peers.LlamaFactory(tmp_path, tmp_path / "job", config, {}, [])
