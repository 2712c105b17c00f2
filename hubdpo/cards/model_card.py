"""The adapter's card, from the manifests of its run alone: every number in it was measured and written down."""

from __future__ import annotations

from typing import Any

import jinja2
import yaml

from hubdpo.cards.licences import Licence, data_remark
from hubdpo.manifest import Accuracy, EvalReport, RunManifest


def render_model_card(
    run: RunManifest, evaluation: EvalReport | None, *, repo: str, version: str, licence: Licence, plots: list[str]
) -> str:
    """Write the card of a release. `plots` are paths inside the bundle."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("hubdpo.cards"), undefined=jinja2.StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, keep_trailing_newline=True, autoescape=False,
    )  # fmt: skip  # Markdown; every value is an id, a number or a word of ours
    environment.filters["percent"] = _percent
    environment.filters["interval"] = _interval
    body = environment.get_template("adapter.md").render(
        repo=repo, name=repo.partition("/")[2], tag=f"v{version}", run=run, config=run.config, base=run.base,
        data=run.dataset, evaluation=evaluation, licence=licence, plots=plots, remark=data_remark(run.dataset.license),
        reproduce=_reproduce(run), margins_rose=_margins_rose(evaluation),
    )  # fmt: skip
    front = yaml.safe_dump(_front_matter(run, evaluation, repo, licence), sort_keys=False, allow_unicode=True)
    return f"---\n{front}---\n\n{body}"


def _front_matter(run: RunManifest, evaluation: EvalReport | None, repo: str, licence: Licence) -> dict[str, Any]:
    front: dict[str, Any] = {
        "library_name": "peft",
        "pipeline_tag": "text-generation",
        "base_model": run.base.repo_id,
        "base_model_relation": "adapter",
        "license": licence.id,
    }
    if licence.name:
        front["license_name"] = licence.name
    if licence.link:
        front["license_link"] = licence.link
    if run.dataset.repo_id:
        front["datasets"] = [run.dataset.repo_id]
    front["tags"] = [f"base_model:adapter:{run.base.repo_id}", "lora", "dpo", "trl", "transformers", "hubdpo"]
    if run.config["load_in_4bit"]:
        front["tags"].insert(2, "qlora")
    if evaluation is not None:
        front["metrics"] = ["accuracy"]
        front["model-index"] = [{"name": repo.partition("/")[2], "results": [_result(run, evaluation)]}]
    return front


def _result(run: RunManifest, evaluation: EvalReport) -> dict[str, Any]:
    dataset = {"type": run.dataset.repo_id or "preference", "name": run.dataset.name, "split": evaluation.split}
    if run.dataset.revision:
        dataset["revision"] = run.dataset.revision
    metrics = (
        ("Log-likelihood preference accuracy, length-normalised", evaluation.adapter_accuracy),
        ("DPO implicit-reward accuracy", evaluation.reward_accuracy),
    )
    return {
        "task": {"type": "text-generation", "name": "Preference ranking (held out)"},
        "dataset": dataset,
        "metrics": [{"type": "accuracy", "name": name, "value": round(value.value, 4)} for name, value in metrics],
    }


def _reproduce(run: RunManifest) -> str:
    config = run.config
    data = f"{run.dataset.repo_id}@{run.dataset.revision}" if run.dataset.repo_id else run.dataset.name
    words = [
        f"hubdpo train --model-name-or-path {run.base.repo_id} --model-revision {run.base.revision}",
        f"--dataset {data} --output-dir run",
    ]
    lists = {"loss_type", "loss_weights", "lora_target_modules", "report_to"}
    for name, value in config.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        elif name in lists:
            words += [f"--{flag} {item}" for item in value or []]
        elif value is not None:
            words.append(f"--{flag} {value}")
    return " \\\n  ".join(words)


def _margins_rose(evaluation: EvalReport | None) -> bool:
    return evaluation is not None and evaluation.adapter_margin > evaluation.base_margin


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _interval(accuracy: Accuracy) -> str:
    return f"{100 * accuracy.value:.1f} % ({100 * accuracy.low:.1f}–{100 * accuracy.high:.1f})"
