"""`hubdpo demo`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hubdpo.cli._options import FormatOption, JsonOption, QuietOption, choose_format, errors_end_here


def register(app: typer.Typer) -> None:
    @app.command()
    def demo(
        folder: Annotated[Path, typer.Option("--output-dir", "-o", help="Where the demo keeps its files.")] = Path(
            "demo-run"
        ),
        format: FormatOption = None,
        json: JsonOption = False,
        quiet: QuietOption = False,
    ) -> None:
        """Run the whole road on this machine: prepare, train, push and load, without network or account."""
        choose_format(format, json=json, quiet=quiet)
        with errors_end_here():
            from hubdpo.demo.road import run

            run(folder)
