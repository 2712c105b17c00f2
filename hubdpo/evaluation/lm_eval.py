"""Run tasks of lm-evaluation-harness (Gao et al. 2021) on base and adapter, where it is installed.

The harness is no dependency. It gets the models that are loaded already, and its own defaults: prompts without the chat
template, and as many examples in the prompt as a task asks for.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import logging
import math
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from pydantic import BaseModel, TypeAdapter

from hubdpo import console
from hubdpo.artefacts.manifests.benchmarks import MOST_METRICS, Benchmark, Benchmarks, Metric
from hubdpo.artefacts.manifests.intervals import Interval
from hubdpo.artefacts.manifests.manifest import fingerprint
from hubdpo.errors import ConfigError
from hubdpo.evaluation.kept import Kept
from hubdpo.evaluation.models import ADAPTER, BASE, WORDS, Models
from hubdpo.hub.failures import first_line
from hubdpo.model.memory import is_out_of_memory

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

OLDEST = "0.4.10"
BENCHMARKS_FILE = "benchmarks.jsonl"
"""In the folder `evaluation` of a run: the results of each task and model, see `Kept`."""
RESAMPLES = 1000
"""Of the harness's own bootstrap, for metrics that are no means."""
Results = Mapping[str, Any]


@dataclass(frozen=True)
class Task:
    """A task by its name in the harness, or as the harness reads it from a file."""

    name: str
    spec: str | dict[str, Any]
    sha256: str | None = None


def check_lm_eval(tasks: Sequence[str]) -> None:
    """Raise ConfigError where tasks are asked for and the harness is not installed, or a task's file is not there."""
    if not tasks:
        return
    if importlib.util.find_spec("lm_eval") is None:
        raise ConfigError(
            "`--lm-eval` needs lm-evaluation-harness, which is not installed", hint=f'pip install "lm_eval>={OLDEST}"'
        )
    for task in _named(tasks):
        if _is_file(task) and not Path(task).is_file():
            raise ConfigError(f"there is no task file `{task}`", hint="check the path; tasks by name: lm_eval ls tasks")


def _named(tasks: Sequence[str]) -> list[str]:
    """Return the tasks one by one; names may be joined by commas, as the harness's own command takes them."""
    return [name for task in tasks for name in ([task] if _is_file(task) else task.split(",")) if name]


def _is_file(task: str) -> bool:
    return task.endswith((".yaml", ".yml"))


def find_tasks(tasks: Sequence[str]) -> list[Task]:
    """Return the tasks of these names, patterns and files. Raise ConfigError for one that the harness does not know."""
    if not tasks:
        return []
    with _harness("cannot be loaded", "lm_eval"):
        from lm_eval.tasks import TaskManager
        from lm_eval.tasks._yaml_loader import load_yaml
    found: dict[str, Task] = {}
    named = _named(tasks)
    manager = TaskManager() if not all(map(_is_file, named)) else None
    for task in named:
        if _is_file(task):
            with _harness("cannot read the task", task):
                spec = load_yaml(task, resolve_func=True)
                name = str(spec.get("task") or spec["group"])
            found[name] = Task(name, spec, hashlib.sha256(Path(task).read_bytes()).hexdigest())
            continue
        names = manager.match_tasks([task]) if manager is not None else []
        if not names:
            raise ConfigError(f"lm-evaluation-harness knows no task `{task}`", hint="lm_eval ls tasks")
        found |= {name: Task(name, name) for name in names}
    return list(found.values())


class TaskResult(BaseModel):
    """A kept result of a task, or of a part of a group: its metrics, and their values of each example."""

    metrics: dict[str, int | float]
    each: dict[str, list[int | float]]
    version: Any
    shots: Any
    examples: Any
    higher_is_better: dict[str, Any]


BENCHMARKS = TypeAdapter(dict[str, TaskResult])


def run_benchmarks(
    models: Models, tokenizer: PreTrainedTokenizerBase, tasks: Sequence[Task], *, kept: Kept, limit: int | None,
    batch_size: int,
) -> Benchmarks | None:  # fmt: skip
    """Return what base and adapter reach in tasks, computed now or kept from before; None without tasks.

    Each task and model is kept as soon as it is measured. Raise ConfigError for a task that the harness cannot run.
    """
    if not tasks:
        return None
    version = importlib.metadata.version("lm_eval")
    results: dict[str, dict[str, Results]] = {BASE: {}, ADAPTER: {}}
    with console.progress("benchmarks", 2 * len(tasks)) as bar:
        for task in tasks:
            for name, of in results.items():
                key = fingerprint(["lm_eval", version, models.keys[name], task.name, task.sha256, limit])
                if kept.get(key) is None:
                    console.info(f"{task.name} with the {WORDS[name]}")
                    with models.running(name) as model:
                        kept.add({key: _measured(model, tokenizer, task, limit, batch_size)})
                of[task.name] = kept.get(key) or {}
                bar.advance(bar.task_ids[0])
    rows = [row for task in tasks for row in _rows(task, results[BASE][task.name], results[ADAPTER][task.name])]
    return Benchmarks(harness=version, weights=models.weights, limit=limit, tasks=rows)


def _measured(
    model: Any, tokenizer: PreTrainedTokenizerBase, task: Task, limit: int | None, batch_size: int
) -> dict[str, Any]:
    with _harness("cannot run the task", task.name):
        from lm_eval import simple_evaluate
        from lm_eval.models.huggingface import HFLM
        from lm_eval.tasks import TaskManager

        found = simple_evaluate(
            HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch_size), tasks=[task.spec], limit=limit,
            bootstrap_iters=RESAMPLES, task_manager=TaskManager(include_defaults=isinstance(task.spec, str)),
        )  # fmt: skip
    groups, results = found.get("groups") or {}, found["results"]
    return {
        name: {
            "metrics": {metric: value for metric, value in results[name].items() if _is_number(value)},
            "each": _each(found["samples"].get(name, [])),
            "version": found["versions"].get(name),
            "shots": found["n-shot"].get(name),
            "examples": (found["n-samples"].get(name) or {}).get("effective"),
            "higher_is_better": found["higher_is_better"].get(name) or {},
        }
        for name in (groups or results)
    }


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _each(samples: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    """Return the values of the examples by metric and filter, in the order of the examples; numbers alone."""
    values: dict[str, dict[int, float]] = {}
    for sample in samples:
        for metric in sample.get("metrics", ()):
            if _is_number(value := sample.get(metric)):
                values.setdefault(f"{metric},{sample.get('filter')}", {})[sample["doc_id"]] = float(value)
    return {name: [of[place] for place in sorted(of)] for name, of in values.items()}


def _rows(task: Task, base: Results, adapter: Results) -> Iterator[Benchmark]:
    """Yield what is shown of a task: itself, or the groups that it consists of."""
    for name, before in base.items():
        after = adapter[name]
        named = [each for each in before["metrics"] if "," in each and not each.partition(",")[0].endswith("_stderr")]
        if len(named) > MOST_METRICS:
            console.warn(f"{name} has {len(named)} metrics, and the first {MOST_METRICS} are reported")
        yield Benchmark(
            name=name, version=None if before["version"] is None else str(before["version"]), sha256=task.sha256,
            shots=before["shots"], examples=before["examples"],
            metrics=[_metric(each, before, after) for each in named[:MOST_METRICS] if each in after["metrics"]],
        )  # fmt: skip


def _metric(name: str, base: Results, adapter: Results) -> Metric:
    metric, _, of = name.partition(",")
    stderr = f"{metric}_stderr,{of}"
    values = [result["metrics"][name] for result in (base, adapter)]
    each = [result["each"].get(name, []) for result in (base, adapter)]
    # a metric is a mean over the examples if it is that for both models
    is_mean = bool(each[0]) and len(each[0]) == len(each[1]) and all(
        math.isclose(sum(some) / len(some), value, abs_tol=1e-9) for some, value in zip(each, values, strict=True)
    )  # fmt: skip
    rise = Interval.of_mean([after - before for before, after in zip(*each, strict=True)]) if is_mean else None
    return Metric(
        name=metric, filter=None if of == "none" else of, base=values[0], base_stderr=base["metrics"].get(stderr),
        adapter=values[1], adapter_stderr=adapter["metrics"].get(stderr), rise=rise,
        higher_is_better=base["higher_is_better"].get(metric),
    )  # fmt: skip


@contextmanager
def _harness(failure: str, task: str) -> Iterator[None]:
    """Raise ConfigError for what the harness raises in the body, and let it say errors alone."""
    logger = logging.getLogger("lm_eval")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    except Exception as problem:  # whatever a task, its data or its functions raise
        if is_out_of_memory(problem):
            raise
        raise ConfigError(
            f"lm-evaluation-harness {failure} `{task}`: {type(problem).__name__}: {first_line(problem)}",
            hint=f"lm_eval validate --tasks {shlex.quote(task)}",
        ) from problem
    finally:
        logger.setLevel(level)
