"""`hubdpo demo`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hubdpo.cli.command import command


def register(app: typer.Typer) -> None:
    @command(app)
    def demo(
        folder: Annotated[Path, typer.Option("--output-dir", "-o", help="Folder for the demo's files.")] = Path(
            "demo-run"
        ),
    ) -> None:
        """Run every stage on this machine, from prepare to load, without network or account."""
        from hubdpo.demo.road import run

        run(folder)
