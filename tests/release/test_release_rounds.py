"""Several rounds: a release is trained further, and what came before is kept in run, card, diff and merge."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file

from hubdpo import diff, evaluate, load_adapter, merge, push, train, verify
from hubdpo.artefacts.manifests.evaluation import EvalReport
from hubdpo.artefacts.manifests.run import RunManifest
from hubdpo.errors import ConfigError, LicenceError
from hubdpo.release.inspect import inspect

WEIGHTS = "adapter_model.safetensors"


def round_of(data: Path, adapter: str, folder: Path, **more: Any) -> RunManifest:
    options = {
        "max_steps": 2,
        "learning_rate": 1e-3,
        "max_length": 128,
        "gradient_accumulation_steps": 1,
        "eval_steps": 2,
        **more,
    }
    return train(dataset=str(data), adapter=adapter, output_dir=folder, **options)


@pytest.mark.slow
def test_a_release_is_trained_further_and_the_chain_is_kept(
    run_dir: Path, dataset_dir: Path, tiny_base_repo: str, repo_id: str, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    mine = Path(shutil.copytree(run_dir, tmp_path / "one"))
    first = push(folder=mine, repo=repo_id, version="1.0.0", check="hashes")
    run = round_of(dataset_dir, f"{repo_id}@v1.0.0", tmp_path / "two")
    assert f"base      {tiny_base_repo}@" in capsys.readouterr().err
    start = run.started_from
    assert start is not None
    assert (start.name, start.version, start.revision, start.license) == (repo_id, "v1.0.0", first.commit, "apache-2.0")
    assert run.base == RunManifest.read(run_dir / "run.json").base
    assert json.loads((tmp_path / "two" / "metrics.jsonl").read_text().splitlines()[0])["loss"] == 0.6931471824645996

    second = push(folder=tmp_path / "two", repo=repo_id, version="1.1.0")  # and load it
    assert verify(f"{repo_id}@v1.1.0", check="hashes").files
    card = ModelCard.load(repo_id).text
    assert f"Training started from the adapter `{repo_id}` v1.0.0 at `{first.commit}`." in card
    assert "reference: the adapter that training started from |" in card
    assert "| 1 | DPO | the base model | `prepared` fingerprint" in card
    assert f"| 2, this one | DPO | `{repo_id}` v1.0.0 at `{first.commit}` | `prepared`" in card
    assert f"--adapter {repo_id}@{first.commit}" in card
    assert "--lora-r" not in card
    assert f"started from `{repo_id}` v1.0.0" in card.partition("## Changes")[2]
    assert "The adapter that training started from ranks" in card
    assert ModelCard.load(repo_id).data.base_model == tiny_base_repo
    lineage = diff(f"{repo_id}@v1.0.0", f"{repo_id}@v1.1.0").lineage
    assert (lineage["started from"].before, lineage["started from"].after) == (None, repo_id)
    assert (lineage["rounds"].before, lineage["rounds"].after) == (1, 2)
    facts = inspect(f"{repo_id}@v1.1.0").facts
    assert (facts["started from"], facts["data of its rounds"]) == (f"{repo_id}@v1.0.0", ["prepared", "prepared"])

    report = EvalReport.read(tmp_path / "two" / "eval.json")
    again = evaluate(tmp_path / "two", base_weights="as-trained", max_answers=0)
    told_by_evaluate = {"dataset", "health", "model"}
    assert again.model_dump(exclude=told_by_evaluate) == report.model_dump(exclude=told_by_evaluate)
    assert report.start is not None
    # as TRL logged it against the frozen adapter; against the base it would hold the first round as well
    assert report.reward_margin == pytest.approx(run.metrics["eval_rewards/margins"], abs=2e-3)
    third = round_of(dataset_dir, f"{repo_id}@v1.1.0", tmp_path / "three", reference_adapter="none")
    assert [one.started_from and one.started_from.version for one in third.rounds] == ["v1.1.0", "v1.0.0", None]
    assert EvalReport.read(tmp_path / "three" / "eval.json").start is None

    merged = merge(adapter=f"{repo_id}@v1.1.0", output_dir=tmp_path / "merged", dtype="float32")
    assert merged.started_from == start
    assert f"| its training started from | `{repo_id}` v1.0.0" in (tmp_path / "merged" / "README.md").read_text()
    loaded, _, revision = load_adapter(repo_id, revision="v1.1.0")
    assert revision == second.commit
    weights = load_file(tmp_path / "two" / WEIGHTS)
    before = load_file(run_dir / WEIGHTS)
    assert not any(torch.equal(weights[name], before[name]) for name in weights)
    assert list(loaded.peft_config) == ["default"]


def test_the_licence_of_what_came_before_binds(run_dir: Path, dataset_dir: Path, repo_id: str, tmp_path: Path) -> None:
    mine = Path(shutil.copytree(run_dir, tmp_path / "one"))
    push(folder=mine, repo=repo_id, version="1.0.0", check="hashes", license="cc-by-nc-4.0")
    round_of(dataset_dir, repo_id, tmp_path / "two", max_steps=1)
    with pytest.raises(
        LicenceError, match=f"the adapter `{repo_id}`, from which training started, has the licence"
    ) as no:
        push(folder=tmp_path / "two", repo=f"{repo_id}-2", version="1.0.0", dry_run=True)
    assert "--license cc-by-nc-4.0" in (no.value.hint or "")


def test_an_evaluation_needs_the_adapter_that_the_rewards_are_against(
    run_dir: Path, dataset_dir: Path, tmp_path: Path
) -> None:
    before = Path(shutil.copytree(run_dir, tmp_path / "one"))
    round_of(dataset_dir, str(before), tmp_path / "two", max_steps=1)
    moved = before.rename(tmp_path / "moved")
    with pytest.raises(ConfigError, match="the adapter folder `one`, from which the run started, is gone") as gone:
        evaluate(tmp_path / "two")
    assert gone.value.hint == "give it with `--adapter DIR`"
    assert evaluate(tmp_path / "two", adapter=moved, max_answers=0).start is not None
    with pytest.raises(ConfigError, match="other weights"):
        evaluate(tmp_path / "two", adapter=tmp_path / "two")
