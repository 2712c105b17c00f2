"""Scores and intervals."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer

from hubdpo import evaluate, load_adapter, load_preferences
from hubdpo.manifest import Accuracy, EvalReport
from hubdpo.training.scoring import _answer_log_probs, score_pairs


@pytest.mark.parametrize(
    ("right", "total", "low", "high"),
    # Newcombe 1998, Statistics in Medicine 17:857, table I, method 3
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_intervals(right: int, total: int, low: float, high: float) -> None:
    accuracy = Accuracy.of(right, total)
    assert accuracy.value == right / total
    assert (accuracy.low, accuracy.high) == pytest.approx((low, high), abs=5e-5)


def test_no_pairs_have_no_accuracy() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Accuracy.of(0, 0)


def test_an_answers_log_probability_is_that_of_its_tokens(run_dir: Path) -> None:
    loaded = load_adapter(run_dir)
    prompt, answer = [20, 21, 22, 23], [30, 31, 32]
    with torch.no_grad():
        logits = loaded.model(input_ids=torch.tensor([prompt + answer])).logits[0].log_softmax(-1)
        (summed, _) = _answer_log_probs(loaded.model, [(prompt, answer), (prompt * 3, answer * 2)], 0)
    expected = sum(logits[len(prompt) + i - 1, token].item() for i, token in enumerate(answer))
    assert summed == pytest.approx(expected, abs=1e-4)


def test_evaluate_gives_the_report_of_the_run_again(run_dir: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(run_dir, tmp_path / "run"))
    before = EvalReport.read(run / "eval.json")
    (run / "eval.json").unlink()
    assert evaluate(run_dir=run).adapter_margin == pytest.approx(before.adapter_margin, abs=1e-5)


def test_an_adapter_that_does_nothing_ranks_like_its_base(run_dir: Path, dataset_dir: Path) -> None:
    loaded = load_adapter(run_dir)
    for name, weight in loaded.model.named_parameters():
        if "lora_B" in name:
            weight.data.zero_()
    tokenizer = AutoTokenizer.from_pretrained(run_dir)
    report = score_pairs(loaded.model, tokenizer, load_preferences(dataset_dir)["test"])
    assert report.adapter_margin == report.base_margin
    assert report.reward_margin == 0
    assert report.reward_accuracy.value == 0
