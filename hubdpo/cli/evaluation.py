"""`hubdpo evaluate`: measure an adapter or a model, and show what was found."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hubdpo import console
from hubdpo.cli.command import command, typed
from hubdpo.config import EvaluateConfig
from hubdpo.console import counted
from hubdpo.machine.refusals import AGAIN, machine_errors

if TYPE_CHECKING:
    from hubdpo.artefacts.manifests.evaluation import EvalReport


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
    _show(report)
    noun = "held-out pair" if report.dataset is None or report.dataset.is_held_out else "pair"
    console.result(
        f"{folder}: adapter {report.adapter_accuracy.value:.1%}, base {report.base_accuracy.value:.1%}, "
        f"longer answer {report.longer_answer_accuracy.value:.1%} of {counted(report.pairs, noun)}",
        {"output_dir": str(folder), **report.model_dump(mode="json")},
        identifier=str(folder),
    )
    if is_run:
        console.hint(f"hubdpo push {typed(folder)} USER/NAME --version 0.1.0")


def _show(report: EvalReport) -> None:
    """Show how the models rank the pairs of each dataset, on each state of the base, and what else was measured."""
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
