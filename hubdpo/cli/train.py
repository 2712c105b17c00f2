"""`hubdpo train`"""

from __future__ import annotations

import os

import typer

from hubdpo import console
from hubdpo.cli.command import command, typed
from hubdpo.config import TrainConfig
from hubdpo.machine.endings import LAUNCHED


def register(app: typer.Typer) -> None:
    @command(app, TrainConfig)
    def train(config: TrainConfig) -> None:
        """Train a QLoRA adapter with DPO on a prepared dataset."""
        from hubdpo.training.start import train as run

        manifest = run(config)
        if os.environ.get("RANK", "0") != "0" or LAUNCHED in os.environ:
            return  # the launching process reports the result
        if config.dry_run:
            console.result(f"ready to train on {manifest.base.name}", manifest.model_dump(mode="json"))
            console.hint("the same command without `--dry-run`")
            return
        accuracy = manifest.metrics.get("eval_rewards/accuracies")
        measured = f", held-out rewards/accuracies {accuracy:.3f}" if accuracy is not None else ""
        console.result(
            f"{config.output_dir}: {console.counted(manifest.steps or 0, 'step')} on {manifest.base.name}{measured}",
            {
                "output_dir": str(config.output_dir),
                "status": manifest.status,
                "steps": manifest.steps,
                "base": manifest.base.name,
                "metrics": manifest.metrics,
            },
            identifier=str(config.output_dir),
        )
        console.hint(f"hubdpo push {typed(config.output_dir)} USER/NAME --version 0.1.0")
