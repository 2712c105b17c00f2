"""The stages from raw data to a release: `hubdpo prepare`, `train`, `evaluate`, `push` and others."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import typer

from hubdpo import console
from hubdpo.cli.command import command, typed
from hubdpo.config import (
    AdoptConfig,
    EvaluateConfig,
    ExportConfig,
    MergeConfig,
    PrepareConfig,
    PushConfig,
    SweepConfig,
    TrainConfig,
)
from hubdpo.console import counted
from hubdpo.errors import HubError, TrainingError
from hubdpo.machine.endings import LAUNCHED
from hubdpo.machine.refusals import AGAIN, machine_errors

if TYPE_CHECKING:
    from hubdpo.artefacts.manifests.bundle import Release
    from hubdpo.artefacts.manifests.evaluation import EvalReport

WHOLE = f"{AGAIN}: nothing is left half-written"
CHECKED = {"load": "published and verified", "hashes": "published, verified by hashes only, not loaded"}
CHECKED_BEFORE = {
    "load": "already published, verified then",
    "hashes": "already published, verified then by hashes only, not loaded",
    None: "already published, not verified again",
}


@command(PrepareConfig, stopped=WHOLE)
def prepare(config: PrepareConfig) -> None:
    """Convert raw preference data to a dataset folder with the columns prompt, chosen and rejected."""
    from hubdpo.data.prepare.prepare import prepare as run

    with machine_errors([config.output_dir], lambda: ("the output folder is unchanged", AGAIN)):
        manifest = run(config)
    if manifest is None:
        return
    funnel = manifest.funnel
    dropped = sum(funnel.dropped.values())
    planned = " would be" if config.dry_run else ""
    console.result(
        f"{config.output_dir}: {counted(funnel.kept, 'pair')}{planned} kept "
        f"of {counted(funnel.read, 'row')} read, {dropped:,} dropped",
        {
            "output_dir": config.output_dir,
            "dry_run": config.dry_run,
            "converter": manifest.converter,
            "funnel": funnel.model_dump(),
            "sources": [source.model_dump(exclude={"sha256", "size"}) for source in manifest.sources],
            "extras": manifest.extras,
            "splits": manifest.splits,
            "published_split": manifest.published_split,
            "max_length": manifest.max_length,
            "fingerprint": manifest.fingerprint,
        },
        identifier=config.output_dir,
    )
    if "train" not in manifest.splits:
        console.hint("the same command with `--test-size 0`, to keep rows for training")
        return
    # Qwen2's chat template shows no tools, calls or reasoning
    base = config.model or ("Qwen/Qwen3-8B" if manifest.extras else "Qwen/Qwen2-7B-Instruct")
    length = f" --max-length {manifest.max_length}" if manifest.max_length else ""
    more = length + (" --group-prompts" if config.pairs == "all" else "")
    console.hint(
        "the same command without `--dry-run`"
        if config.dry_run
        else f"hubdpo train --model-name-or-path {typed(base)} --dataset {typed(config.output_dir)}{more} -o run"
    )


@command(TrainConfig)
def train(config: TrainConfig) -> None:
    """Train a QLoRA adapter with DPO on a prepared dataset."""
    from hubdpo.training.start import train as run

    manifest = run(config)
    if os.environ.get("RANK", "0") != "0" or LAUNCHED in os.environ:
        return  # the launching process reports the result
    if config.dry_run and manifest.status == "running":  # otherwise nothing is left to train
        console.result(f"ready to train on {manifest.base.name}", manifest.model_dump(mode="json"))
        console.hint("the same command without `--dry-run`")
        return
    accuracy = manifest.metrics.get("eval_rewards/accuracies")
    measured = ""
    if accuracy is not None:
        from hubdpo.cards.results import evaluated_pairs

        measured = f", rewards/accuracies {accuracy:.3f} on {evaluated_pairs(manifest) or 'the'} held-out pairs"
    console.result(
        f"{config.output_dir}: {counted(manifest.steps or 0, 'step')} on {manifest.base.name}{measured}",
        {
            "output_dir": str(config.output_dir),
            "status": manifest.status,
            "steps": manifest.steps,
            "base": manifest.base.name,
            "metrics": manifest.metrics,
        },
        identifier=str(config.output_dir),
    )
    push = f"hubdpo push {typed(config.output_dir)} USER/NAME --version 0.1.0"
    console.hint(f"hubdpo evaluate {typed(config.output_dir)} && {push}" if manifest.test_pairs else push)


@command(SweepConfig)
def sweep(config: SweepConfig) -> None:
    """Train a run for each combination of option values, on one base in memory, and rank them on the held-out pairs.

    Options with `...` may have several values, as in `--beta 0.05 0.1 --learning-rate 1e-6 5e-6`; a value that is a
    list itself has commas, as in `--loss-type sigmoid,sft ipo`.
    """
    from hubdpo.training.sweep.sweep import sweep as run

    manifest, folder = run(config), config.output_dir
    data = {"output_dir": str(folder), "best": manifest.best and manifest.best.name, **manifest.model_dump(mode="json")}
    if config.dry_run:
        console.result(f"{counted(len(config.points), 'run')} ready to train", data)
        console.hint("the same command without `--dry-run`")
        return
    best = f", best {manifest.best.name}" if manifest.best is not None else ""
    failed = f", {len(manifest.failed):,} failed" if manifest.failed else ""
    identifier = str(folder / manifest.best.name if manifest.best is not None else folder)
    console.result(f"{folder}: {counted(len(manifest.runs), 'run')}{failed}{best}", data, identifier=identifier)
    if manifest.best is not None:
        console.hint(f"hubdpo push {typed(folder)} USER/NAME --version 0.1.0")
    if manifest.failed:
        raise typer.Exit(TrainingError.exit_code)


@command(AdoptConfig, stopped=WHOLE)
def adopt(config: AdoptConfig) -> None:
    """Make a run folder of a LoRA adapter that another tool trained: TRL, LLaMA-Factory, axolotl, Unsloth, PEFT."""
    from hubdpo.adoption.adopt import adopt as run

    with machine_errors([config.output_dir], lambda: ("the output folder is unchanged", AGAIN)):
        manifest = run(config)
    assert manifest.adopted is not None
    console.result(
        f"{config.output_dir}: {manifest.adopted.source.name} on {manifest.base.name}, by {manifest.adopted.words}",
        {"output_dir": str(config.output_dir), **manifest.model_dump(mode="json")},
        identifier=str(config.output_dir),
    )
    data = "" if manifest.test_pairs else " --dataset USER/NAME"
    console.hint(f"hubdpo evaluate {typed(config.output_dir)}{data}")


@command(EvaluateConfig, stopped=f"{AGAIN}: it goes on from what is kept")
def evaluate(config: EvaluateConfig) -> None:
    """Compare an adapter or a model with its base on held-out pairs, and write eval.json.

    The model may be a run, a release, any PEFT adapter or a merged model. Everything that is computed is kept, so the
    same command goes on after a kill.
    """
    from hubdpo.evaluation.evaluate import evaluate_into_folder

    places = [config.output_dir or config.model]
    with machine_errors(places, lambda: ("what was computed is kept", AGAIN)):
        report, folder, is_run = evaluate_into_folder(config)
    _show_report(report)
    noun = "held-out pair" if report.dataset is None or report.dataset.is_held_out else "pair"
    console.result(
        f"{folder}: adapter {report.adapter_accuracy.value:.1%}, base {report.base_accuracy.value:.1%}, "
        f"longer answer {report.longer_answer_accuracy.value:.1%} of {counted(report.pairs, noun)}",
        {"output_dir": str(folder), **report.model_dump(mode="json")},
        identifier=str(folder),
    )
    if is_run:
        console.hint(f"hubdpo push {typed(folder)} USER/NAME --version 0.1.0")


def _show_report(report: EvalReport) -> None:
    from hubdpo.cards.model.beside import BENCHMARK_HEADINGS, BESIDE_HEADINGS, benchmark_rows, beside_rows
    from hubdpo.cards.model.judged import judged_line
    from hubdpo.cards.model.ranked import HEADINGS, OTHER_HEADINGS, other_rows, ranking_rows

    first = report.dataset.name if report.dataset is not None else ""
    sets = [(first, report.original, report), *((f.dataset.name, f.original, f.as_trained) for f in report.further)]
    console.table(list(HEADINGS), [row for each in sets for row in ranking_rows(*each)])
    if others := [row for each in sets for row in other_rows(*each)]:
        console.table(list(OTHER_HEADINGS), others)
    if report.health is not None:
        console.table(list(BESIDE_HEADINGS), beside_rows(report.health))
    if report.benchmarks is not None:
        console.table(list(BENCHMARK_HEADINGS), benchmark_rows(report.benchmarks))
    if report.judged is not None:
        console.info(judged_line(report.judged))


@command(MergeConfig, stopped=WHOLE)
def merge(config: MergeConfig) -> None:
    """Merge one adapter or several into their base, and check that the model gives their log-probabilities."""
    from hubdpo.model.merge.merge import merge as run

    with machine_errors([config.output_dir], lambda: ("the output folder is unchanged", AGAIN)):
        manifest = run(config)
    merged = "the adapter's" if len(config.adapter) == 1 else f"those of {len(config.adapter):,} adapters together"
    console.result(
        f"{config.output_dir}: {manifest.parameters:,} weights in {manifest.dtype}; log-probabilities differ from "
        f"{merged} by {manifest.check.largest_difference:.2g} at most",
        {"output_dir": str(config.output_dir), **manifest.model_dump(mode="json")},
        identifier=str(config.output_dir),
    )
    console.hint(f"hubdpo push {typed(config.output_dir)} USER/NAME --version 0.1.0")


@command(ExportConfig, stopped=WHOLE)
def export(config: ExportConfig) -> None:
    """Write an adapter, or a merged model, as a GGUF file with llama.cpp's converter, and check the file."""
    from hubdpo.model.export.export import export as run

    with machine_errors([config.output.parent], lambda: ("the output is unchanged", AGAIN)):
        exported = run(config)
    is_adapter = exported.kind == "adapter"
    console.result(
        f"{exported.output}: {'LoRA adapter' if is_adapter else 'model'} for {exported.architecture}, "
        f"{counted(exported.tensors, 'tensor')} with {exported.parameters:,} values, {exported.bytes / 1e6:,.1f} MB",
        exported.as_dict(),
        identifier=exported.output,
    )
    model = f"BASE.gguf --lora {typed(config.output)}" if is_adapter else typed(config.output)
    console.hint(f"llama-server --model {model}")


@command(PushConfig, stopped=f"{AGAIN}: it finishes the release and reports its state")
def push(config: PushConfig) -> None:
    """Publish a dataset, a run or a merged model as one tagged, verified release."""
    from hubdpo.hub.reference import ref_of
    from hubdpo.release.push import publish_folder

    release, is_new = publish_folder(config)
    fields = {"repo", "version", "commit", "tag", "url", "files", "checked", "pull_request", "collection"}
    console.result(
        f"{_outcome(config, release, is_new)}: {release.url}",
        {**release.model_dump(mode="json", include=fields), "dry_run": config.dry_run},
        identifier=release.url if config.create_pr else f"{release.repo}@{release.tag}",
    )
    if config.dry_run and (is_new or config.create_pr or config.collection):
        console.hint("the same command without `--dry-run`")
    elif not config.create_pr:
        console.hint(f"hubdpo verify {ref_of(release)}")
        if config.collection and release.collection is None:
            raise typer.Exit(HubError.exit_code)  # the release stands, the collection is missing


def _outcome(config: PushConfig, release: Release, is_new: bool) -> str:
    if config.create_pr:
        if config.dry_run:
            return "would propose"
        return "proposed and verified" if release.pull_request else "nothing to propose"
    if config.dry_run:
        return "would publish" if is_new else "already published"
    return CHECKED[config.check] if is_new else CHECKED_BEFORE[release.checked]
