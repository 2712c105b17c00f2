"""The best checkpoint by held-out pairs, and early stopping: what transformers decides, resumed exactly, and said."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import orjson
import pytest
import torch
from killed import killed_copy
from safetensors.torch import load_file
from transformers import EarlyStoppingCallback, TrainerControl, TrainerState

from hubdpo import prepare, push, train
from hubdpo.artefacts.manifests.chosen import ChosenStep
from hubdpo.cards.commands import train_command
from hubdpo.config import TrainConfig
from hubdpo.errors import ConfigError, ResumeMismatch
from hubdpo.training.run.best import best_step, is_better, without_improvement
from hubdpo.training.step.arguments import dpo_config

PAIRS = [
    {
        "prompt": [{"role": "user", "content": f"Question {i}: what is {i} plus one?"}],
        "chosen": [{"role": "assistant", "content": f"It is {i + 1}, gladly."}],
        "rejected": [{"role": "assistant", "content": f"No idea about {i}."}],
    }
    for i in range(48)
]
NAMES = {"model_name_or_path": "x/y", "dataset": "d", "output_dir": "r"}
ADAPTER = "adapter_model.safetensors"
LOSS, MARGIN = "eval_loss", "eval_rewards/margins"


def history(*values: float, metric: str = LOSS) -> list[dict[str, float]]:
    """The log of a run that is evaluated at every second step."""
    return [line for step, value in enumerate(values, 1) for line in
            ({"step": 2 * step, "loss": 9.0}, {"step": 2 * step, metric: value})]  # fmt: skip


@pytest.mark.parametrize(
    ("values", "metric", "saved_every", "step"),
    [
        ((3.0, 1.0, 2.0), LOSS, 2, 4), ((3.0, 1.0, 1.0), LOSS, 2, 4), ((3.0, 1.0, 2.0), MARGIN, 2, 2),
        ((3.0, 1.0, 2.0, 2.5), LOSS, 4, 4), ((1.0, 3.0, 2.0), LOSS, 4, 6), ((math.nan, 3.0, 2.0), LOSS, 2, 6),
    ],
)  # fmt: skip
def test_the_best_step_is_one_that_was_saved(
    values: tuple[float, ...], metric: str, saved_every: int, step: int
) -> None:
    found = best_step(history(*values, metric=metric), metric, saved_every=saved_every, last=2 * len(values))
    assert found is not None
    assert found.step == step
    assert best_step([], metric, saved_every=1) is None


@pytest.mark.parametrize("threshold", [0.0, 0.2])
@pytest.mark.parametrize("metric", [LOSS, MARGIN])
def test_the_patience_is_that_of_transformers(metric: str, threshold: float) -> None:
    draw = torch.Generator().manual_seed(3)
    args = dpo_config(TrainConfig.build(NAMES), device="cpu", steps=99, evaluates=True)
    args.metric_for_best_model, args.greater_is_better = metric, metric != LOSS
    theirs, state = EarlyStoppingCallback(10**9, threshold), TrainerState()
    values = torch.rand(200, generator=draw).tolist()
    for count in range(1, len(values) + 1):
        theirs.on_evaluate(args, state, TrainerControl(), {metric: values[count - 1]})
        assert (
            without_improvement(history(*values[:count], metric=metric), metric, threshold)
            == theirs.early_stopping_patience_counter
        )
        if state.best_metric is None or is_better(metric, values[count - 1], state.best_metric):
            state.best_metric = values[count - 1]


@pytest.fixture(scope="module")
def contrary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset whose test split prefers what its train split rejects, so that training makes it worse."""
    folder = tmp_path_factory.mktemp("contrary")
    for split, rows in (("train", PAIRS[:32]), ("test", PAIRS[32:])):
        pairs = (
            rows
            if split == "train"
            else [{**row, "chosen": row["rejected"], "rejected": row["chosen"]} for row in rows]
        )
        (folder / f"{split}.jsonl").write_bytes(b"".join(orjson.dumps(pair) + b"\n" for pair in pairs))
    prepare(source=[str(folder)], output_dir=folder / "data", license="mit", split="published")
    return folder / "data"


def options(base: str | Path, data: Path, run: Path, **more: Any) -> dict[str, Any]:
    return {
        "model_name_or_path": str(base), "dataset": data, "output_dir": run, "max_steps": 6, "max_length": 128,
        "learning_rate": 3e-3, "per_device_train_batch_size": 2, "gradient_accumulation_steps": 1, "eval_steps": 1,
        "save_total_limit": 2, "warmup_steps": 0, "load_best_model_at_end": True, **more,
    }  # fmt: skip


def logged(run: Path) -> list[tuple[int, float]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [(line["step"], line["eval_loss"]) for line in lines if "eval_loss" in line]


@pytest.mark.slow
def test_the_adapter_is_that_of_the_best_checkpoint_and_the_run_says_so(
    tiny_base_repo: str, contrary: Path, tmp_path: Path, repo_id: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    found = train(**options(tiny_base_repo, contrary, run))
    assert "overfits" not in capsys.readouterr().err, "the adapter is that of the step before"
    step, value = min(logged(run), key=lambda line: line[1])
    assert step == 1, "the first step is the least wrong"
    assert found.chosen == ChosenStep(step=1, metric=LOSS, value=value, of=6)
    assert (found.steps, found.metrics["eval_loss"]) == (6, value)
    assert "train_runtime" in found.metrics
    kept = sorted(path.name for path in run.glob("checkpoint-*"))
    assert kept == ["checkpoint-1", "checkpoint-6"], "the best one outlives --save-total-limit"
    best, final = (load_file(folder / ADAPTER) for folder in (run / "checkpoint-1", run))
    assert best.keys() == final.keys()
    assert all(torch.equal(best[name], final[name]) for name in best)
    assert "--load-best-model-at-end" in train_command(found)
    push(run, repo_id, version="0.1.0")
    card = " ".join((run / "README.md").read_text().split())
    assert "The adapter is that of step 1 of 6, the best of 6 checkpoints in `eval_loss`" in card
    assert "It was chosen by all these pairs, so the adapter's results on them are somewhat better" in card

    (run / "checkpoint-1" / ADAPTER).unlink()
    assert train(**options(tiny_base_repo, contrary, run), resume=True) == found, "it is complete"


@pytest.mark.slow
def test_a_stopped_run_is_resumed_with_its_patience(tiny_base: Path, contrary: Path, tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    chosen = options(tiny_base, contrary, whole, early_stopping_patience=2, save_total_limit=9)
    found = train(**chosen)
    assert (found.steps, found.planned_steps) == (3, 6)
    assert found.chosen is not None
    assert found.chosen.step == 1
    for left in (2, 3):
        killed_copy(whole, cut, after=left)
        again = train(**{**chosen, "output_dir": cut}, resume=True)
        assert (again.steps, again.chosen) == (3, found.chosen)
        assert (cut / ADAPTER).read_bytes() == (whole / ADAPTER).read_bytes()
        assert logged(cut) == logged(whole)
        shutil.rmtree(cut)


@pytest.mark.slow
def test_without_the_best_checkpoint_a_stopped_run_keeps_its_last(
    tiny_base: Path, contrary: Path, tmp_path: Path
) -> None:
    chosen = options(tiny_base, contrary, tmp_path / "run", early_stopping_patience=1, load_best_model_at_end=False)
    found = train(**chosen, metric_for_best_model="rewards/margins", save_steps=5)
    assert (found.steps, found.chosen) == (2, None)
    assert [path.name for path in (tmp_path / "run").glob("checkpoint-*")] == ["checkpoint-2"]
    with pytest.raises(ResumeMismatch, match="early_stopping_patience"):
        train(
            **{**chosen, "early_stopping_patience": 5},
            metric_for_best_model="rewards/margins",
            save_steps=5,
            resume=True,
        )


@pytest.mark.parametrize("option", [{"load_best_model_at_end": True}, {"early_stopping_patience": 3}])
def test_a_test_split_is_needed(tiny_base: Path, tmp_path: Path, option: dict[str, Any]) -> None:
    raw = tmp_path / "pairs.jsonl"
    raw.write_bytes(b"".join(orjson.dumps(pair) + b"\n" for pair in PAIRS[:4]))
    prepare(source=[str(raw)], output_dir=tmp_path / "data", test_size=0)
    with pytest.raises(ConfigError, match="compares evaluations on a test split, and `.*` has none") as caught:
        train(tiny_base, tmp_path / "data", tmp_path / "run", **option)
    assert caught.value.hint == "hubdpo prepare SOURCE -o DIR --test-size 0.05"


@pytest.mark.parametrize(
    ("given", "saved"),
    [({}, 50), ({"eval_steps": 20}, 20), ({"eval_steps": 20, "save_steps": 40}, 40), ({"eval_steps": 1}, 1)],
)  # fmt: skip
def test_checkpoints_are_saved_where_they_are_evaluated(given: dict[str, int], saved: int) -> None:
    assert TrainConfig.build({**NAMES, **given, "load_best_model_at_end": True}).save_steps == saved


def test_checkpoints_without_an_evaluation_are_refused() -> None:
    with pytest.raises(
        ConfigError, match="checkpoints every 50 steps and evaluations every 20 some have none"
    ) as caught:
        TrainConfig.build({**NAMES, "eval_steps": 20, "save_steps": 50, "load_best_model_at_end": True})
    assert caught.value.hint == "--save-steps 40"


@pytest.mark.parametrize("name", ["loss", "eval_loss", "rewards/margins"])
def test_a_metric_may_be_named_as_transformers_does(name: str) -> None:
    assert TrainConfig.build({**NAMES, "metric_for_best_model": name}).metric_for_best_model.startswith("eval_")
