"""`hubdpo prepare`"""

from __future__ import annotations

import typer

from hubdpo import console
from hubdpo.cli.command import command, typed
from hubdpo.config import PrepareConfig
from hubdpo.machine.refusals import AGAIN, machine_errors


def register(app: typer.Typer) -> None:
    @command(app, PrepareConfig)
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
            f"{config.output_dir}: {console.counted(funnel.kept, 'pair')}{planned} kept "
            f"of {console.counted(funnel.read, 'row')} read, {dropped:,} dropped",
            {
                "output_dir": config.output_dir,
                "dry_run": config.dry_run,
                "converter": manifest.converter,
                "funnel": funnel.model_dump(),
                "sources": [source.model_dump(exclude={"sha256", "size"}) for source in manifest.sources],
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
        length = f" --max-length {manifest.max_length}" if manifest.max_length else ""
        console.hint(
            "the same command without `--dry-run`"
            if config.dry_run
            else f"hubdpo train --model-name-or-path {typed(config.model or 'Qwen/Qwen2-7B-Instruct')} "
            f"--dataset {typed(config.output_dir)}{length} -o run"
        )
