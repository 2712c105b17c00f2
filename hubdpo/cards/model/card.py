"""Write the card of an adapter (from run.json, eval.json, metrics.jsonl, the weights) or of a merged model."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from hubdpo.artefacts.formats.bounded import read_text
from hubdpo.artefacts.manifests.evaluation import EvalReport, Sample
from hubdpo.artefacts.manifests.manifest import CARD_FILE, CURVES_FILE
from hubdpo.artefacts.manifests.merge import MergeManifest
from hubdpo.artefacts.manifests.run import RunManifest
from hubdpo.cards.commands import adopt_command, train_command
from hubdpo.cards.fences import fence, one_line, visible, wrapped
from hubdpo.cards.getting import in_words, name_and_version, pip_line
from hubdpo.cards.licences import Licence, data_remark
from hubdpo.cards.model.adopted import IN_4BIT, commit_words, facts_of
from hubdpo.cards.model.beside import beside_values
from hubdpo.cards.model.citations import QLORA, TRL, Paper, method_of, methods_of
from hubdpo.cards.model.judged import judge_words, judged_rows, judged_sentences, quoted_samples
from hubdpo.cards.model.needs import memory_rows, memory_words, merged_words, speed_words
from hubdpo.cards.model.programs import MLX, TRANSFORMERS_SERVE, programs
from hubdpo.cards.model.proofs import read_file, read_proofs
from hubdpo.cards.model.ranked import (
    further_rows,
    headline,
    lacks_original,
    measured_on,
    model_index,
    pairs_in_words,
    states,
)
from hubdpo.cards.model.rounds import adapter_words, data_words, round_rows, with_others
from hubdpo.cards.model.serving import LLAMA_CPP, Adapter, problems, vllm_rank
from hubdpo.cards.render import Front, render
from hubdpo.cards.results import LogLine, curve_rows, evaluated_pairs, set_pairs
from hubdpo.config.flags import changed_options
from hubdpo.config.objective import BELONGS_TO, LossOptions

FILES = {
    "adapter_model.safetensors": "LoRA weights",
    "adapter_config.json": "PEFT configuration, with the commit of the base model",
    "tokenizer.json": "tokenizer and chat template (with the other tokenizer files), unchanged from the base model",
    "run.json": "options, package versions, hardware, and the commits of base model and data",
    "metrics.jsonl": "training log",
    "plots/curves.png": "training curves",
    "eval.json": "results on the held-out pairs",
    "eval_pairs.jsonl": "log-probabilities of each held-out pair under base and adapter, without its text",
    "probes.json": "log-probabilities to compare a loaded copy with",
    "LICENSE": "licence of the base model",
    "hubdpo.json": "SHA-256 of every file",
}

TRACKER_NAMES = {
    "wandb": "Weights & Biases", "trackio": "Trackio", "mlflow": "MLflow", "swanlab": "SwanLab", "comet_ml": "Comet",
    "clearml": "ClearML",
}  # fmt: skip
BIBTEX = re.compile(r"^```bibtex\n(.*?)\n```$", re.DOTALL | re.MULTILINE)
SHOWN = {"loss_type", "beta", "reference", "reference_adapter"}
"""Options of the loss that every card shows; the others where they differ from their defaults."""
OWN_TEMPLATE = {
    "tokenizer.json": "tokenizer (with the other tokenizer files), unchanged from the base model",
    "chat_template.jinja": "chat template of the training; `tokenizer_config.json` has it too",
}
"""In place of a line of FILES, where the template is not the base's."""
OWN_TOKENIZER = {"tokenizer.json": "tokenizer (with the other tokenizer files) of the adapter, not of the base model"}
ADOPTED = {
    "run.json": "what is known of the training, and the commit of the base model",
    "metrics.jsonl": "training log of the tool that trained it",
}
"""In place of lines of FILES, for an adapter that another tool trained."""
RUN_MERGED = (TRANSFORMERS_SERVE, LLAMA_CPP, MLX)
"""Programs that `make downstream` runs a merged model in."""
REFERENCES = {True: "the adapter that training started from", False: "base model without the adapter"}
PLOT_WIDTH = 900
"""Width of a picture in a card, in pixels of the page; the files have twice as many, for sharp screens."""
LONGEST_CITATION = 4_000
"""Longest citation of a dataset, in characters."""

PAPERS = {
    "Qwen/Qwen2-": "2407.10671", "Qwen/Qwen2.5-": "2412.15115", "Qwen/Qwen3-": "2505.09388",
    "meta-llama/Llama-2-": "2307.09288", "meta-llama/Meta-Llama-3": "2407.21783", "meta-llama/Llama-3": "2407.21783",
    "HuggingFaceTB/SmolLM2-": "2502.02737", "mistralai/Mistral-7B-": "2310.06825", "mistralai/Mixtral-": "2401.04088",
    "google/gemma-2b": "2403.08295", "google/gemma-7b": "2403.08295", "google/gemma-2-": "2408.00118",
    "google/gemma-3-": "2503.19786", "microsoft/Phi-3-": "2404.14219", "microsoft/phi-4": "2412.08905",
    "allenai/OLMo-2-": "2501.00656", "allenai/OLMoE-": "2409.02060", "bigcode/starcoder2-": "2402.19173",
    "swiss-ai/Apertus-": "2509.14233", "LGAI-EXAONE/EXAONE-4.0-": "2507.11407", "openai/gpt-oss-": "2508.10925",
    "deepseek-ai/DeepSeek-V3": "2412.19437", "zai-org/GLM-4.5": "2508.06471",
}  # fmt: skip
"""arXiv ids of the technical reports of base models, by the start of their Hub ids."""


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
    run: RunManifest, evaluation: EvalReport | None, *, release: Release, adapter: Adapter, log: Sequence[LogLine] = ()
) -> str:
    """Return the card of a release. `adapter` describes the weights, `log` has the lines of metrics.jsonl."""
    known = problems(adapter)
    files = FILES | (OWN_TEMPLATE if run.has_own_template else {}) | (ADOPTED if run.adopted is not None else {})
    if run.has_own_tokenizer and not run.has_own_template:
        files |= OWN_TOKENIZER
    data = run.dataset
    loss = {name: value for name, value in run.config.items() if name in LossOptions.model_fields.keys() - SHOWN}
    own = {name: loss[name] for name, of in BELONGS_TO.items() if of in run.losses and name in loss}
    shown = own | dict(changed_options(loss, LossOptions))
    # the entry of the data is copied from their card
    entries = [
        *(paper.bibtex for paper in _methods(run)),
        # behind all tools that are known
        *([TRL] if run.adopted is None or run.adopted.tool is not None else []),
        data.citation if data is not None else None,
    ]
    plots = sorted(name for name in release.files if name.startswith("plots/") and name.endswith(".png"))
    return render(
        "adapter.md", _front_matter(run, evaluation, release),
        release=release, adapter=adapter, run=run, config=run.config, base=run.base, data=data,
        data_name=one_line(data.name) if data is not None else "",
        evaluation=evaluation, **(_results(run, evaluation) if evaluation is not None else {}),
        curve=curve_rows(log, taken=run.chosen.step if run.chosen else None), curve_pairs=evaluated_pairs(run),
        set_pairs={name: set_pairs(run, name) for name in run.evaluation_sets}, referenced=run.is_compared,
        commit_words=commit_words(run), method=method_of(run), facts=facts_of(run) if run.adopted is not None else [],
        read=[one_line(name) for name in (run.adopted.read if run.adopted is not None else ())],
        left_out=[one_line(name) for name in (run.adopted.left_out if run.adopted is not None else ())],
        objective=[one_line(f"{name} {value}") for name, value in shown.items()],
        samples=[fence(_sample(sample)) for sample in (evaluation.samples if evaluation else ())],
        plots="\n\n".join(map(_picture, plots)),
        programs={program.name: program for program in programs(adapter, known)}, problems=known, proofs=read_file(),
        vllm_rank=vllm_rank(adapter.rank), lora_kind=_lora_kind(run),
        tracked=" and ".join(f"[{TRACKER_NAMES.get(one.tracker, one.tracker)}]({one.url})" for one in run.tracked),
        memory_rows=memory_rows(run, adapter), memory_words=memory_words(run), speed_words=speed_words(evaluation),
        template_kwargs=fence(json.dumps(run.template_kwargs, sort_keys=True), "json"),
        remark=data_remark(data.license if data is not None else None, run.started_from, run.adopted),
        hubdpo=name_and_version(run.hubdpo_version, run.hubdpo_from), pip_line=pip_line(run.hubdpo_from),
        getting=in_words(run.hubdpo_version, run.hubdpo_from),
        reproduce=train_command(run) if run.adopted is None else adopt_command(run),
        files={name: text for name, text in files.items() if name in release.files or name == "hubdpo.json"},
        reference=f"reference: {REFERENCES[run.is_frozen_reference]}", with_others=with_others,
        started_from=adapter_words(run.started_from) if run.started_from else None,
        rounds=round_rows(run.rounds) if run.started_from is not None else [],
        papers=_papers(run), bibtex=fence("\n".join(filter(None, entries)), "bibtex"),
    )  # fmt: skip


def _picture(path: str) -> str:
    """Return a plot at half its size; those of hubdpo 0.2, one for each panel, are shown as they are."""
    label = f"{Path(path).stem} over the steps"
    return f'<img src="{path}" width="{PLOT_WIDTH}" alt="{label}">' if path == CURVES_FILE else f"![{label}]({path})"


def _front_matter(run: RunManifest, evaluation: EvalReport | None, release: Release) -> Front:
    front: Front = {
        "library_name": "peft",
        "pipeline_tag": "text-generation",
        "base_model": run.base.repo_id,
        "base_model_relation": "adapter",
        **release.licence.front_matter(),
    }
    if run.dataset is not None and run.dataset.language:
        front["language"] = list(run.dataset.language)
    if run.dataset is not None and run.dataset.repo_id:
        front["datasets"] = [run.dataset.repo_id]
    front["tags"] = [f"base_model:adapter:{run.base.repo_id}", "lora", *_tags(run), "transformers", "hubdpo"]
    if run.in_4bit:
        front["tags"].insert(2, "qlora")
    # the Hub shows this Space in the tab of training metrics
    front["tags"] += [f"trackio:{one.url}" for one in run.tracked if one.tracker == "trackio"]
    if evaluation is not None:
        front["metrics"] = ["accuracy"]
        front["model-index"] = [{"name": release.name, "results": model_index(run, evaluation)}]
    return front


def _results(run: RunManifest, report: EvalReport) -> dict[str, object]:
    first, measured = headline(report)
    said, quoted = report.judged, report.quoted
    answers = report.health.answers if report.health is not None else None
    return {
        "headline": first, "headline_on": measured, "headline_pairs": pairs_in_words(run, report, first),
        "states": states(run, report), "further": further_rows(report),
        "measured_on": measured_on(run, report), "lacks_original": lacks_original(run, report),
        "judge_words": said and judge_words(said), "judged_rows": judged_rows(said) if said else [],
        "judged_sentences": judged_sentences(said, answers) if said else [],
        "quotes": quoted_samples(quoted) if quoted else [],
        **beside_values(report),
    }  # fmt: skip


def _sample(sample: Sample) -> str:
    empty = "(empty answer)"
    return wrapped(f"[prompt] {sample.prompt}\n[base] {sample.base or empty}\n[adapter] {sample.adapter or empty}")


def render_merged_card(manifest: MergeManifest, *, repo: str, version: str, licence: Licence | None) -> str:
    """Return the card. `licence` is None until the model is published."""
    kwargs = sorted((manifest.chat_template_kwargs or {}).items())
    return render(
        "merged.md", _merged_front_matter(manifest, licence),
        template_kwargs=visible("".join(f", {name}={value!r}" for name, value in kwargs)),
        repo=repo, name=repo.partition("/")[2], tag=f"v{version}", m=manifest, base=manifest.base,
        data=manifest.dataset, adapter=manifest.adapter, licence=licence, parts=manifest.parts,
        words=adapter_words, data_words=data_words, with_others=with_others, in_4bit=IN_4BIT,
        memory_words=merged_words(manifest), method=_merged_method(manifest), combined_with=_combined_with(manifest),
        hubdpo=name_and_version(manifest.hubdpo_version, manifest.hubdpo_from), pip_line=pip_line(manifest.hubdpo_from),
        remark=_remarks(manifest), date=read_file()["date"],
        tested=[f"{one.program}, {one.version}" for one in read_proofs().values() if one.program in RUN_MERGED],
        started_from=adapter_words(manifest.started_from) if manifest.started_from is not None else None,
    )  # fmt: skip


def _combined_with(manifest: MergeManifest) -> str:
    """Return the options of a combination that have an effect, as PEFT calls them."""
    config = manifest.config
    kind = str(config.get("combination_type"))
    names = ["density"] if config.get("density") is not None else []
    names += ["majority_sign_method"] if "ties" in kind else []
    names += ["seed"] if "dare" in kind else []
    exact = ", the weighted sum of their changes" if kind == "cat" else ""
    return f"`{kind}`{exact}{''.join(f', {name} `{config[name]}`' for name in names)} (PEFT's `add_weighted_adapter`)"


def _merged_method(manifest: MergeManifest) -> str:
    unknown = "a method that is not known"
    if manifest.method is None:
        return f"by {unknown}"
    return f"with {manifest.method}{'' if all(part.method for part in manifest.parts) else f' and {unknown}'}"


def _remarks(manifest: MergeManifest) -> str:
    """Return the remarks on the licence of the data of each adapter, equal ones once."""
    remarks = [
        data_remark(part.dataset.license if part.dataset else None, part.started_from, part.adopted)
        for part in manifest.parts
    ]
    if len(set(remarks)) == 1:
        return remarks[0]
    return " ".join(f"Of adapter {number}: {remark}" for number, remark in enumerate(remarks, start=1))


def _merged_front_matter(manifest: MergeManifest, licence: Licence | None) -> Front:
    front: Front = {"library_name": "transformers", "pipeline_tag": "text-generation"}
    if manifest.base.repo_id:
        front |= {"base_model": manifest.base.repo_id, "base_model_relation": "merge"}
    if licence:
        front |= licence.front_matter()
    data = [part.dataset.repo_id for part in manifest.parts if part.dataset is not None and part.dataset.repo_id]
    if data:
        front["datasets"] = list(dict.fromkeys(data))
    front["tags"] = [*(manifest.method.lower().split(" + ") if manifest.method else []), "trl", "merge", "hubdpo"]
    return front


def citation_of(folder: Path) -> str | None:
    """Return the BibTeX entries of a dataset card, None if it has none."""
    card = folder / CARD_FILE
    text = read_text(card) if card.is_file() else ""
    entries = "\n".join(match[1] for match in BIBTEX.finditer(text))
    return entries[:LONGEST_CITATION] or None


def _lora_kind(run: RunManifest) -> str:
    kinds = {"use_dora": "DoRA", "use_rslora": "rank-stabilised LoRA"}
    return " with ".join(name for option, name in kinds.items() if run.config.get(option)) or "LoRA"


def _methods(run: RunManifest) -> list[Paper]:
    return [*methods_of(run), *([QLORA] if run.in_4bit else [])]


def _tags(run: RunManifest) -> list[str]:
    tool = run.adopted.tool if run.adopted is not None else "trl"
    return [*(method_of(run) or "").lower().replace(" + ", " ").split(), *([tool.lower()] if tool else [])]


def _papers(run: RunManifest) -> list[tuple[str, str]]:
    papers = [(paper.name, paper.arxiv) for paper in _methods(run)]
    adapters = {"use_rslora": ("rsLoRA", "2312.03732"), "use_dora": ("DoRA", "2402.09353")}
    papers += [paper for option, paper in adapters.items() if run.config.get(option)]
    base = run.base.repo_id or ""
    papers += [(base.partition("/")[2], number) for begins, number in PAPERS.items() if base.startswith(begins)]
    return papers
