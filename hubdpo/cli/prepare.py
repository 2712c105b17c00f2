"""`hubdpo prepare`"""

from __future__ import annotations

import typer

from hubdpo import console
from hubdpo.cli._options import command
from hubdpo.config import PrepareConfig


def register(app: typer.Typer) -> None:
    @command(app, PrepareConfig)
    def prepare(config: PrepareConfig) -> None:
        """Turn raw preference data into a dataset folder of prompt, chosen and rejected."""
        from hubdpo.data.prepare import prepare as run

        manifest = run(config)
        funnel = manifest.funnel
        dropped = sum(funnel.dropped.values())
        console.result(
            f"{config.output_dir}: {funnel.kept:,} pairs kept of {funnel.read:,} rows read, {dropped:,} dropped",
            {
                "output_dir": str(config.output_dir),
                "converter": manifest.converter,
                "funnel": funnel.model_dump(),
                "splits": manifest.splits,
                "fingerprint": manifest.fingerprint,
            },
            identifier=str(config.output_dir),
        )
        console.hint(f"hubdpo train --model-name-or-path Qwen/Qwen2-7B-Instruct --dataset {config.output_dir} -o run")
