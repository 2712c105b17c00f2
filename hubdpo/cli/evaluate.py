"""`hubdpo evaluate`"""

from __future__ import annotations

import typer

from hubdpo import console
from hubdpo.cli.command import command, typed
from hubdpo.config import EvaluateConfig


def register(app: typer.Typer) -> None:
    @command(app, EvaluateConfig)
    def evaluate(config: EvaluateConfig) -> None:
        """Compare the adapter with its base on the held-out pairs, and write eval.json and plots."""
        from hubdpo.evaluation.evaluate import evaluate as run

        report = run(config)
        pairs = console.counted(report.pairs, "held-out pair")
        console.result(
            f"{config.run_dir}: adapter {report.adapter_accuracy.value:.1%}, base {report.base_accuracy.value:.1%}, "
            f"longer answer {report.longer_answer_accuracy.value:.1%} of {pairs}",
            {"run_dir": str(config.run_dir), **report.model_dump(mode="json")},
            identifier=str(config.run_dir),
        )
        console.hint(f"hubdpo push {typed(config.run_dir)} USER/NAME --version 0.1.0")
