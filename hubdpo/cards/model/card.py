"""Write the card of an adapter from the files of its run: run.json, eval.json, metrics.jsonl and the weights."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from hubdpo.artefacts.manifests.evaluation import EvalReport, Sample
from hubdpo.artefacts.manifests.run import RunManifest
from hubdpo.cards.commands import train_command
from hubdpo.cards.fences import fence, one_line, wrapped
from hubdpo.cards.licences import Licence, data_remark
from hubdpo.cards.model import citations
from hubdpo.cards.model.serving import Adapter, problems, programs, vllm_rank
from hubdpo.cards.render import Front, render
from hubdpo.cards.results import LogLine, curve_rows, result_rows, verdict

FILES = {
    "adapter_model.safetensors": "LoRA weights",
    "adapter_config.json": "PEFT configuration, with the commit of the base model",
    "tokenizer.json": "tokenizer and chat template (with the other tokenizer files), unchanged from the base model",
    "run.json": "options, package versions, hardware, and the commits of base model and data",
    "metrics.jsonl": "training log",
    "plots/curves.png": "training curves",
    "eval.json": "results on the held-out pairs",
    "probes.json": "log-probabilities to compare a loaded copy with",
    "LICENSE": "licence of the base model",
    "hubdpo.json": "SHA-256 of every file",
}


@dataclass(frozen=True)
class Release:
    """The release that a card describes: repo, version, licence and files."""

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
    log: Sequence[LogLine] = (),
) -> str:
    """Return the card of a release. `adapter` describes the weights, `log` has the lines of metrics.jsonl."""
    known = problems(adapter)
    return render(
        "adapter.md", _front_matter(run, evaluation, release),
        release=release, adapter=adapter, run=run, config=run.config, base=run.base, data=run.dataset,
        data_name=one_line(run.dataset.name), evaluation=evaluation, verdict=evaluation and verdict(evaluation),
        results=result_rows(evaluation, beta=run.config["beta"]) if evaluation else [], curve=curve_rows(log),
        samples=[fence(_sample(sample)) for sample in (evaluation.samples if evaluation else ())],
        plots=_plots(release.files),
        programs={program.name: program for program in programs(adapter, known)}, problems=known,
        vllm_rank=vllm_rank(adapter.rank),
        template_kwargs=fence(json.dumps(run.config.get("chat_template_kwargs"), sort_keys=True), "json"),
        remark=data_remark(run.dataset.license), reproduce=train_command(run),
        files={name: text for name, text in FILES.items() if name in release.files or name == "hubdpo.json"},
        papers=citations.links(run), bibtex=fence(citations.bibtex(run), "bibtex"),
    )  # fmt: skip


def _front_matter(run: RunManifest, evaluation: EvalReport | None, release: Release) -> Front:
    front: Front = {
        "library_name": "peft",
        "pipeline_tag": "text-generation",
        "base_model": run.base.repo_id,
        "base_model_relation": "adapter",
        **release.licence.front_matter(),
    }
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


def _result(run: RunManifest, evaluation: EvalReport) -> Front:
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
    """Return the plots of a run as Markdown pictures; "" without plots."""
    paths = sorted(name for name in files if name.startswith("plots/") and name.endswith(".png"))
    return "\n\n".join(f"![{Path(path).stem} over the steps]({path})" for path in paths)


def _sample(sample: Sample) -> str:
    empty = "(empty answer)"
    return wrapped(f"[prompt] {sample.prompt}\n[base] {sample.base or empty}\n[adapter] {sample.adapter or empty}")
