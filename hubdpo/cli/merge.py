"""`hubdpo merge`"""

from __future__ import annotations

import typer

from hubdpo import console
from hubdpo.cli.command import command, typed
from hubdpo.config import MergeConfig
from hubdpo.machine.refusals import AGAIN, machine_errors


def register(app: typer.Typer) -> None:
    @command(app, MergeConfig)
    def merge(config: MergeConfig) -> None:
        """Merge an adapter into its base, and check that the model gives the adapter's log-probabilities."""
        from hubdpo.model.merge.merge import merge as run

        with machine_errors([config.output_dir], lambda: ("the output folder is unchanged", AGAIN)):
            manifest = run(config)
        console.result(
            f"{config.output_dir}: {manifest.parameters:,} weights in {manifest.dtype}; log-probabilities differ from "
            f"the adapter's by {manifest.check.largest_difference:.2g} at most",
            {"output_dir": str(config.output_dir), **manifest.model_dump(mode="json")},
            identifier=str(config.output_dir),
        )
        console.hint(f"hubdpo push {typed(config.output_dir)} USER/NAME --version 0.1.0")
