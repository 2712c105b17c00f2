"""The adapter's card, from the files of its run alone: every number in it was measured and written down."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jinja2
import yaml

from hubdpo.artefacts.manifests.evaluation import EvalReport, Sample
from hubdpo.artefacts.manifests.run import RunManifest
from hubdpo.cards.commands import train_command
from hubdpo.cards.fences import fence, one_line, wrapped
from hubdpo.cards.licences import Licence, data_remark
from hubdpo.cards.model import citations
from hubdpo.cards.model.serving import Adapter, problems, vllm_rank, ways
from hubdpo.cards.results import curve_rows, percent, result_rows, verdict

FILES = {
    "adapter_model.safetensors": "the adapter's weights",
    "adapter_config.json": "how they fit on the base, and which commit of it",
    "tokenizer.json": "with the other tokenizer files and the chat template: the base's, unchanged",
    "run.json": "every option, versions, hardware, base and data by commit",
    "metrics.jsonl": "every logged step",
    "eval.json": "what was measured on the held-out pairs",
    "probes.json": "log-probabilities that a loaded copy must give",
    "LICENSE": "the base's licence",
    "hubdpo.json": "SHA-256 of every file",
}
PLOTS = tuple(f"plots/{name}.png" for name in ("loss", "accuracies", "margins", "logps"))


@dataclass(frozen=True)
class Release:
    """Where a card will stand: the repo, the version, the licence, and the files beside it."""

    repo: str
    version: str
    licence: Licence
    files: Collection[str]

    @property
    def name(self) -> str:
        return self.repo.partition("/")[2]

    @property
    def tag(self) -> str:
        return f"v{self.version}"


def render_model_card(
    run: RunManifest,
    evaluation: EvalReport | None,
    *,
    release: Release,
    adapter: Adapter,
    log: Sequence[Mapping[str, Any]] = (),
) -> str:
    """Write the card of a release. `adapter` tells of the weights, `log` are the lines of metrics.jsonl."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("hubdpo.cards"), undefined=jinja2.StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, keep_trailing_newline=True, autoescape=False,
    )  # fmt: skip  # Markdown; every value is an id, a number or a word of ours, or stands in a fence
    environment.filters["percent"] = percent
    environment.filters["thousands"] = "{:,}".format
    found = problems(adapter)
    body = environment.get_template("adapter.md").render(
        release=release, adapter=adapter, run=run, config=run.config, base=run.base, data=run.dataset,
        data_name=one_line(run.dataset.name), evaluation=evaluation, verdict=evaluation and verdict(evaluation),
        results=result_rows(evaluation, beta=run.config["beta"]) if evaluation else [], curve=curve_rows(log),
        samples=[fence(_sample(sample)) for sample in (evaluation.samples if evaluation else ())],
        plots=_plots(release.files),
        ways={way.name: way for way in ways(adapter, found)}, problems=found, vllm_rank=vllm_rank(adapter.rank),
        template_kwargs=fence(json.dumps(run.config.get("chat_template_kwargs"), sort_keys=True), "json"),
        remark=data_remark(run.dataset.license), reproduce=train_command(run),
        files={name: what for name, what in FILES.items() if name in release.files or name == "hubdpo.json"},
        papers=citations.links(run), bibtex=fence(citations.bibtex(run), "bibtex"),
    )  # fmt: skip
    front = yaml.safe_dump(_front_matter(run, evaluation, release), sort_keys=False, allow_unicode=True)
    return f"---\n{front}---\n\n{body}"


def _front_matter(run: RunManifest, evaluation: EvalReport | None, release: Release) -> dict[str, Any]:
    licence = release.licence
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
    if run.dataset.language:
        front["language"] = list(run.dataset.language)
    if run.dataset.repo_id:
        front["datasets"] = [run.dataset.repo_id]
    front["tags"] = [f"base_model:adapter:{run.base.repo_id}", "lora", "dpo", "trl", "transformers", "hubdpo"]
    if run.config["load_in_4bit"]:
        front["tags"].insert(2, "qlora")
    if evaluation is not None:
        front["metrics"] = ["accuracy"]
        front["model-index"] = [{"name": release.name, "results": [_result(run, evaluation)]}]
    return front


def _result(run: RunManifest, evaluation: EvalReport) -> dict[str, Any]:
    dataset = {
        "type": run.dataset.repo_id or "preference",
        "name": one_line(run.dataset.name),
        "config": "default",
        "split": evaluation.split,
    }
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


def _plots(files: Collection[str]) -> str:
    """Return a table of the pictures, two a row, those that say most in front; empty when there is none."""
    found = [name for name in files if name.startswith("plots/") and name.endswith(".png")]
    found.sort(key=lambda name: (PLOTS.index(name) if name in PLOTS else len(PLOTS), name))
    cells = [
        (name := path.removeprefix("plots/").removesuffix(".png"), f"![{name} over the steps]({path})")
        for path in found
    ]
    cells += [("", "")] * (len(cells) % 2)
    rows: list[str] = []
    for (one, picture), (other, second) in zip(cells[::2], cells[1::2], strict=True):
        rows += [f"| **{one}** | **{other}** |".replace("****", "")] if rows else [f"| {one} | {other} |", "|---|---|"]
        rows.append(f"| {picture} | {second} |")
    return "\n".join(rows)


def _sample(sample: Sample) -> str:
    nothing = "(ends at once)"
    return wrapped(f"[prompt] {sample.prompt}\n[base] {sample.base or nothing}\n[adapter] {sample.adapter or nothing}")
