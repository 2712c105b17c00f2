"""Tasks of lm-evaluation-harness on base and adapter: with the harness where it is installed, and with a stand-in."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from hubdpo import evaluate
from hubdpo.artefacts.manifests.evaluation import EvalReport
from hubdpo.errors import ConfigError
from hubdpo.evaluation import lm_eval
from hubdpo.evaluation.kept import Kept
from hubdpo.evaluation.lm_eval import BENCHMARKS, Task, check_lm_eval, find_tasks, run_benchmarks
from hubdpo.evaluation.models import Models

OWN_TASK = """
task: sums
dataset_path: json
dataset_kwargs: {{data_files: {{test: {rows}}}}}
output_type: multiple_choice
test_split: test
doc_to_text: "{{{{question}}}}"
doc_to_choice: "{{{{answers}}}}"
doc_to_target: "{{{{right}}}}"
metric_list: [{{metric: acc, aggregation: mean, higher_is_better: true}}]
metadata: {{version: 2.0}}
"""


@pytest.fixture
def own_task(tmp_path: Path) -> Path:
    """A task in a file, as the harness's guide describes it."""
    rows = [{"question": f"{n} + 1 =", "answers": ["It", "No", "Put", "do"], "right": n % 4} for n in range(6)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "sums.yaml").write_text(OWN_TASK.format(rows=tmp_path / "rows.jsonl"))
    return tmp_path / "sums.yaml"


def results(right: list[float], **changed: Any) -> dict[str, Any]:
    """What the harness returns of the task `sums`."""
    share = sum(right) / len(right)
    return {
        "results": {
            "sums": {
                "alias": "sums", "acc,none": share, "acc_stderr,none": 0.1, "f1,strict": 0.5,
                "f1_stderr,strict": "N/A", "sample_len": len(right),
            }
        },
        "samples": {
            "sums": [
                {"doc_id": place, "filter": "none", "metrics": ["acc"], "acc": value}
                for place, value in reversed(list(enumerate(right)))
            ]
        },
        "versions": {"sums": 2.0}, "n-shot": {"sums": 0}, "n-samples": {"sums": {"effective": len(right)}},
        "higher_is_better": {"sums": {"acc": True}}, **changed,
    }  # fmt: skip


class Harness:
    """A stand-in for the modules of the harness. The first model that it measures is the base."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[dict[str, Any]] = []
        self.found = [results([0, 0, 1, 1]), results([0, 1, 1, 1])]
        self.found[1]["samples"]["sums"].reverse()
        modules = {
            "lm_eval": {"simple_evaluate": self.evaluate},
            "lm_eval.models": {}, "lm_eval.models.huggingface": {"HFLM": SimpleNamespace},
            "lm_eval.tasks": {"TaskManager": self.manager}, "lm_eval.tasks._yaml_loader": {"load_yaml": None},
        }  # fmt: skip
        for name, members in modules.items():
            module = ModuleType(name)
            vars(module).update(members)
            monkeypatch.setitem(sys.modules, name, module)
        monkeypatch.setattr(lm_eval.importlib.util, "find_spec", lambda name: name)
        version = importlib.metadata.version
        monkeypatch.setattr(
            lm_eval.importlib.metadata, "version", lambda name: "0.4.13" if name == "lm_eval" else version(name)
        )

    def manager(self, **options: Any) -> Any:
        names = ["sums", "sums_hard", "other"]
        return SimpleNamespace(
            match_tasks=lambda asked: [name for name in names if name.startswith(asked[0].rstrip("*"))]
        )

    def evaluate(self, model: Any, **options: Any) -> Any:
        self.calls.append(options)
        found = self.found[(len(self.calls) - 1) % 2]
        if isinstance(found, BaseException):
            raise found
        return found


@pytest.fixture
def harness(monkeypatch: pytest.MonkeyPatch) -> Harness:
    return Harness(monkeypatch)


class Still(SimpleNamespace):
    def train(self, mode: bool = True) -> None: ...
    def eval(self) -> None: ...


def run(folder: Path, **options: Any) -> Any:
    model = Still(training=False)
    models = Models(model, base=model, keys={"base": "b", "adapter": "a"}, weights="float32")  # type: ignore[arg-type]
    kept = Kept(folder / "benchmarks.jsonl", BENCHMARKS)
    tasks = [Task("sums", "sums")]
    return run_benchmarks(models, None, tasks, kept=kept, batch_size=4, **{"limit": 4, **options})  # type: ignore[arg-type]


@pytest.mark.skipif(importlib.util.find_spec("lm_eval") is not None, reason="the harness is installed")
def test_without_the_harness_it_is_named_before_torch_is_imported() -> None:
    with pytest.raises(ConfigError, match="`--lm-eval` needs lm-evaluation-harness, which is not installed") as caught:
        evaluate(model="run", lm_eval=["hellaswag"])
    assert caught.value.hint == 'pip install "lm_eval>=0.4.10"'


def test_a_task_file_must_be_there(harness: Harness) -> None:
    check_lm_eval([])
    check_lm_eval(["sums"])
    with pytest.raises(ConfigError, match=r"there is no task file `sums\.yaml`"):
        check_lm_eval(["sums.yaml"])


def test_tasks_are_found_by_name_and_pattern(harness: Harness) -> None:
    assert [task.name for task in find_tasks(["sums*"])] == ["sums", "sums_hard"]
    assert [task.name for task in find_tasks(["other,sums_hard", "other"])] == ["other", "sums_hard"]
    with pytest.raises(ConfigError, match="lm-evaluation-harness knows no task `hellaswagg`") as caught:
        find_tasks(["other", "hellaswagg"])
    assert caught.value.hint == "lm_eval ls tasks"


def test_base_and_adapter_are_compared_on_the_same_examples(harness: Harness, tmp_path: Path) -> None:
    found = run(tmp_path)
    assert (found.harness, found.weights, found.limit) == ("0.4.13", "float32", 4)
    [task] = found.tasks
    assert (task.name, task.version, task.shots, task.examples) == ("sums", "2.0", 0, 4)
    acc, f1 = task.metrics
    assert (acc.name, acc.filter, acc.base, acc.adapter, acc.base_stderr) == ("acc", None, 0.5, 0.75, 0.1)
    # one of four examples changed: a resample has none of it to all four
    assert (acc.rise.value, acc.rise.low, acc.rise.high, acc.higher_is_better) == (0.25, 0, 0.75, True)
    assert (f1.name, f1.filter, f1.base_stderr, f1.rise, f1.higher_is_better) == ("f1", "strict", None, None, None)
    assert harness.calls[0]["limit"] == 4


def test_a_metric_that_is_no_mean_of_its_examples_has_no_paired_interval(harness: Harness, tmp_path: Path) -> None:
    for found in harness.found:
        found["results"]["sums"]["acc,none"] += 0.01
    assert run(tmp_path).tasks[0].metrics[0].rise is None


def test_a_group_is_shown_in_place_of_its_tasks(harness: Harness, tmp_path: Path) -> None:
    for found in harness.found:
        found["results"]["all"] = {"alias": "all", "acc,none": 0.3, "acc_stderr,none": 0.05}
        found["groups"] = {"all": {}}
    [task] = run(tmp_path).tasks
    assert (task.name, task.examples, [metric.name for metric in task.metrics]) == ("all", None, ["acc"])


def test_a_killed_benchmark_goes_on_with_the_model_that_it_was_at(harness: Harness, tmp_path: Path) -> None:
    whole = run(tmp_path / "whole")
    harness.calls.clear()
    harness.found[1], found = KeyboardInterrupt(), harness.found[1]  # type: ignore[assignment]
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "killed")
    harness.calls.clear()
    harness.found = [found, found]
    assert run(tmp_path / "killed") == whole
    assert len(harness.calls) == 1
    run(tmp_path / "killed", limit=5)
    assert len(harness.calls) == 3


def test_what_the_harness_cannot_run_is_told_in_one_line(harness: Harness, tmp_path: Path) -> None:
    harness.found[0] = KeyError("no column\n`question`")  # type: ignore[assignment]
    with pytest.raises(ConfigError, match="cannot run the task `sums`: KeyError: ") as caught:
        run(tmp_path)
    assert caught.value.hint == "lm_eval validate --tasks sums"


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("lm_eval") is None, reason="lm-evaluation-harness is not installed")
def test_the_harness_runs_a_task_of_ones_own(run_dir: Path, own_task: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = {"model": run_dir, "output_dir": out, "max_answers": 0, "max_pairs": 2, "base_weights": "original"}
    report = evaluate(**options, lm_eval=[str(own_task)])
    assert report.benchmarks is not None
    [task] = report.benchmarks.tasks
    assert (task.name, task.version, task.examples, task.metrics[0].name) == ("sums", "2.0", 6, "acc")
    assert task.metrics[0].rise is not None
    assert task.sha256 is not None
    assert EvalReport.read(out / "eval.json").benchmarks == report.benchmarks
