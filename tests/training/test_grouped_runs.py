"""Runs whose pairs of one prompt go together: what they print, what they resume to, and several processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from killed import killed_copy
from test_training_ready import assert_like_losses, train_in_two_processes

from hubdpo import prepare, train
from hubdpo.artefacts.manifests.run import RunManifest

ADAPTER = "adapter_model.safetensors"


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All pairs of four answers to each of ten prompts, two of which are held out."""
    rows = [
        {
            "instruction": f"What is {i} plus one?",
            "completions": [
                {"response": f"{word}, {i + 1} it is{'.' * score}", "overall_score": score}
                for score, word in enumerate(("No", "Well", "Maybe", "Gladly"))
            ],
        }
        for i in range(10)
    ]
    folder = tmp_path_factory.mktemp("answers") / "data"
    manifest = prepare(rows, folder, pairs="all", test_size=0.2)
    assert sum(manifest.splits.values()) == 60
    return folder


def options(base: Path, data: Path, run: Path, **more: Any) -> dict[str, Any]:
    return {
        "model_name_or_path": str(base), "dataset": str(data), "output_dir": run, "max_steps": 6, "max_length": 128,
        "learning_rate": 1e-3, "per_device_train_batch_size": 2, "gradient_accumulation_steps": 4, "save_steps": 2,
        "eval_steps": 3, "group_prompts": True, **more,
    }  # fmt: skip


@pytest.fixture(scope="module")
def run(tiny_base: Path, answers: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("grouped") / "run"
    train(**options(tiny_base, answers, folder))
    return folder


def test_a_run_that_is_killed_and_resumed_ends_with_the_same_bits(
    tiny_base: Path, answers: Path, run: Path, tmp_path: Path
) -> None:
    resumed = killed_copy(run, tmp_path / "run", after=4)
    train(**options(tiny_base, answers, resumed, resume=True))
    assert (resumed / ADAPTER).read_bytes() == (run / ADAPTER).read_bytes()


def test_an_epoch_has_as_many_steps_as_without_groups(
    tiny_base: Path, answers: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plans = []
    for group_prompts in (True, False):
        more = {"group_prompts": group_prompts, "max_steps": -1, "num_train_epochs": 1, "dry_run": True}
        train(**options(tiny_base, answers, tmp_path / "run", **more))
        said = capsys.readouterr().err
        plans.append(said[said.index("steps ") :].splitlines()[0].partition(" (")[0])
        assert ("groups    8 prompts of 6.0 pairs, 32 distinct answers in 96" in said) == group_prompts
        assert ("hint: `--group-prompts`" in said) == (not group_prompts)
    assert plans[0] == plans[1]


def test_data_without_a_second_pair_of_a_prompt_is_told(
    tiny_base: Path, dataset_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(**options(tiny_base, dataset_dir, tmp_path / "run", dry_run=True))
    assert "no two pairs have the same prompt" in capsys.readouterr().err


@pytest.mark.parametrize("more", [{}, {"reference": "cached", "tokens_per_batch": 128}], ids=["online", "cached"])
def test_two_processes_train_like_one_on_whole_prompts(
    tiny_base: Path, answers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: dict[str, Any]
) -> None:
    """Six pairs a process: each gets one prompt, and one process gets both."""
    monkeypatch.setenv("HUBDPO_CACHE", str(tmp_path / "cache"))
    steps = {"max_steps": 3, "gradient_accumulation_steps": 3, **more}
    train_in_two_processes(**options(tiny_base, answers, tmp_path / "two", **steps))
    train(**options(tiny_base, answers, tmp_path / "one", **{**steps, "gradient_accumulation_steps": 6}))
    assert_like_losses(tmp_path / "two", tmp_path / "one")
    one, two = (RunManifest.read(tmp_path / name / "run.json").metrics["num_tokens"] for name in ("one", "two"))
    assert one == two
