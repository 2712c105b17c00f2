"""Scores and intervals."""

from __future__ import annotations

import math
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from hubdpo import evaluate, load_adapter, load_preferences
from hubdpo.artefacts.folders.run_folder import remembered_folder
from hubdpo.artefacts.formats.pair_scores import from_lines
from hubdpo.artefacts.manifests.evaluation import EvalReport
from hubdpo.artefacts.manifests.intervals import Accuracy, mcnemar
from hubdpo.artefacts.manifests.manifest import file_entry
from hubdpo.artefacts.manifests.run import RunManifest
from hubdpo.data.encoded.rows import TokenRows
from hubdpo.data.load import look_at_dataset
from hubdpo.errors import DataError, TrainingError
from hubdpo.evaluation.models import Models
from hubdpo.evaluation.ranking import _stratum, score_pairs
from hubdpo.evaluation.samples import NEW_TOKENS, PROMPTS, samples_of
from hubdpo.evaluation.scoring import Scores, scores_of
from hubdpo.model.adapters.load import answer
from hubdpo.model.log_probs import answer_log_probs
from tests.near import assert_near


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


@pytest.mark.parametrize(
    ("gained", "lost", "p"),
    [(7, 1, 18 / 256), (1, 7, 18 / 256), (0, 0, 1.0), (3, 3, 1.0), (10, 0, 2 / 1024), (400, 300, 0.000177)],
)
def test_mcnemar_counts_the_pairs_that_changed_sides(gained: int, lost: int, p: float) -> None:
    before = [False] * gained + [True] * lost + [True, False, True]
    after = [True] * gained + [False] * lost + [True, False, True]
    assert mcnemar(before, after) == (gained, lost, pytest.approx(p, rel=0.01))


def test_always_preferring_the_longer_answer_is_worth_one_half_once_lengths_are_balanced() -> None:
    # per token: a longer answer always wins, whatever it says
    scores = Scores(*np.array([[-1.0, -9.0, 9, 3]] * 8 + [[-9.0, -1.0, 3, 9]] * 2).T)
    report = EvalReport(
        split="test", pairs=10, reward_margin=0, base_margin=0, adapter_margin=0,
        **dict.fromkeys(
            ("reward_accuracy", "base_accuracy", "adapter_accuracy", "longer_answer_accuracy"), Accuracy.of(8, 10)
        ),
        chosen_longer=_stratum(scores, scores, scores.chosen_length > scores.rejected_length),
        chosen_shorter=_stratum(scores, scores, scores.chosen_length < scores.rejected_length),
    )  # fmt: skip
    balanced = report.balanced("adapter")
    assert balanced is not None
    assert balanced.value == 0.5
    assert balanced.low < 0.5 < balanced.high


def test_the_mean_of_two_shares_has_a_narrower_interval_than_either() -> None:
    one, other = Accuracy.of(30, 50), Accuracy.of(10, 50)
    mean = Accuracy.mean(one, other)
    assert mean.value == pytest.approx(0.4)
    assert mean.high - mean.low < min(one.high - one.low, other.high - other.low)


def test_the_report_holds_the_answers_to_the_fixed_prompts(run_dir: Path) -> None:
    report = EvalReport.read(run_dir / "eval.json")
    assert [sample.prompt for sample in report.samples] == list(PROMPTS)
    loaded = load_adapter(run_dir, load_in_4bit=False)
    # the answers that the card shows are those of the original weights, which other programs load
    assert answer(loaded, PROMPTS[0], max_new_tokens=NEW_TOKENS) == report.samples[0].adapter
    for name, weight in loaded.model.named_parameters():
        if "lora_B" in name:
            weight.data.mul_(1000)
    again = samples_of(Models(loaded.model), loaded.tokenizer)
    assert [sample.base for sample in again] == [sample.base for sample in report.samples]
    assert any(sample.base != sample.adapter for sample in again)


def test_the_report_counts_the_pairs_whose_scores_are_kept(run_dir: Path) -> None:
    report, run = EvalReport.read(run_dir / "eval.json"), RunManifest.read(run_dir / "run.json")
    scores = from_lines((run_dir / "eval_pairs.jsonl").read_bytes(), "eval_pairs.jsonl")
    assert scores["row"].tolist() == list(range(report.pairs))
    per_token = {
        model: scores[f"{model}_chosen"] / scores["chosen_tokens"]
        - scores[f"{model}_rejected"] / scores["rejected_tokens"]
        for model in ("base", "adapter")
    }
    assert (per_token["adapter"] > 0).mean() == report.adapter_accuracy.value
    assert (per_token["base"] > 0).mean() == report.base_accuracy.value
    assert_near(float(per_token["adapter"].mean()), report.adapter_margin, share=1e-9)
    rewards = run.config["beta"] * (
        scores["adapter_chosen"] - scores["base_chosen"] - scores["adapter_rejected"] + scores["base_rejected"]
    )
    assert_near(float(rewards.mean()), report.reward_margin, share=1e-9)
    assert run.files["eval_pairs.jsonl"] == file_entry(run_dir / "eval_pairs.jsonl")


def test_an_answers_log_probability_is_that_of_its_tokens(run_dir: Path) -> None:
    loaded = load_adapter(run_dir)
    ids, places = [20, 21, 22, 23, 30, 31, 32], [4, 6]  # 31 is read and not scored
    with torch.no_grad():
        logits = loaded.model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
        found, _ = answer_log_probs(loaded.model, [(ids, places), (ids * 3, [8, 9])])
    assert_near(found, [logits[place - 1, ids[place]].item() for place in places], share=1e-5)


def test_evaluate_gives_the_report_of_the_run_again(run_dir: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(run_dir, tmp_path / "run"))
    before = EvalReport.read(run / "eval.json")
    (run / "eval.json").unlink()
    # a difference of mean log-probabilities, which are of the order of the logarithm of the vocabulary's size
    assert_near(
        evaluate(model=run, max_answers=0).adapter_margin, before.adapter_margin, share=1e-6, scale=math.log(512)
    )


def test_an_adapter_that_does_nothing_ranks_like_its_base(run_dir: Path, dataset_dir: Path) -> None:
    loaded = load_adapter(run_dir)
    for name, weight in loaded.model.named_parameters():
        if "lora_B" in name:
            weight.data.zero_()
    tokenizer = AutoTokenizer.from_pretrained(run_dir)
    report = score_pairs(loaded.model, tokenizer, load_preferences(dataset_dir)["test"])
    assert report.adapter_margin == report.base_margin
    assert report.reward_margin == 0
    assert report.reward_accuracy.value == 0.5
    assert (report.only_adapter_right, report.only_base_right, report.mcnemar_p) == (0, 0, 1.0)
    assert report.base_summed_accuracy == report.adapter_summed_accuracy


def test_scoring_keeps_no_cache_of_keys_and_values(
    run_dir: Path, dataset_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = load_adapter(run_dir)
    kept: list[object] = []
    backbone = loaded.model.get_base_model().model
    hook = backbone.register_forward_hook(lambda module, given, output: kept.append(output.past_key_values))
    score_pairs(
        loaded.model,
        loaded.tokenizer,
        load_preferences(dataset_dir)["test"].select(range(2)),
        max_length=128,
        prompt_budget=64,
    )
    hook.remove()
    assert kept
    assert set(kept) == {None}


@pytest.mark.parametrize(
    ("place", "pairs", "hint"),
    [
        ("evaluate.score_encoded", 16, "--per-device-eval-batch-size 8"),
        ("beside.samples_of", 2, "--per-device-eval-batch-size 1"),
        ("evaluate.compare_probes", 1, "--device cpu"),
        ("models.load_base", 4, "--device cpu"),
    ],
)
def test_out_of_memory_is_told_with_the_next_command(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch, place: str, pairs: int, hint: str
) -> None:
    def failing(*args: object, **kwargs: object) -> None:
        raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")

    before = (run_dir / "eval.json").read_bytes()
    monkeypatch.setattr(f"hubdpo.evaluation.{place}", failing)
    with pytest.raises(TrainingError, match="out of memory|no room for the base") as caught:
        evaluate(model=run_dir, per_device_eval_batch_size=pairs, max_answers=0)
    assert hint in (caught.value.hint or "")
    assert (run_dir / "eval.json").read_bytes() == before


def test_a_dataset_is_read_at_the_commit_that_was_looked_at(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = look_at_dataset(str(remembered_folder(run_dir, "dataset")))[0]
    pinned = f"me/data@{'a' * 40}"
    monkeypatch.setattr("hubdpo.evaluation.held_out.look_at_dataset", lambda ref, trains: (manifest, pinned))

    def load(ref: str, trains: bool) -> None:
        raise DataError(f"loads {ref}")

    monkeypatch.setattr("hubdpo.evaluation.held_out.open_dataset", load)
    with pytest.raises(DataError, match=f"loads {pinned}"):
        evaluate(model=run_dir, dataset="me/data")


def test_what_needs_no_torch_is_refused_before_it_is_imported() -> None:
    code = "import sys, hubdpo.evaluation.evaluate; print(sorted({'torch', 'transformers', 'peft'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_answer_that_pairs_share_is_scored_once(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three answers make three pairs; another prompt, or another context, makes another sequence."""
    prompt, good, fair, bad = [20, 21, 22], [30, 31, 32, 33], [30, 31], [34]
    sides = [(good, bad), (good, fair), (fair, bad)]
    pairs = [{"prompt_ids": prompt, "chosen_ids": one, "rejected_ids": two} for one, two in sides]
    pairs += [{**pairs[0], "prompt_ids": [20]}, {**pairs[0], "chosen_context": [0, 2]}]
    loaded, asked = load_adapter(run_dir), []

    def counted(model: Any, sequences: Any) -> Any:
        asked.extend(sequences)
        return answer_log_probs(model, sequences)

    monkeypatch.setattr("hubdpo.evaluation.scoring.answer_log_probs", counted)
    together = scores_of(loaded.model, TokenRows.of(pairs), 2, "adapter")
    assert len(asked) == 3 + 2 + 1
    alone = [scores_of(loaded.model, TokenRows.of([pair]), 1, "adapter") for pair in pairs]
    for name in ("chosen", "rejected", "chosen_length", "rejected_length"):
        assert_near(getattr(together, name), [getattr(each, name)[0] for each in alone], share=1e-5)
