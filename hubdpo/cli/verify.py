"""`hubdpo verify`"""

from __future__ import annotations

from typing import Annotated

import typer

from hubdpo import console
from hubdpo.cli._options import FormatOption, JsonOption, QuietOption, choose_format, errors_end_here


def register(app: typer.Typer) -> None:
    @app.command()
    def verify(
        release: Annotated[str, typer.Argument(help="A release on the Hub.", metavar="USER/NAME@vX.Y.Z")],
        format: FormatOption = None,
        json: JsonOption = False,
        quiet: QuietOption = False,
    ) -> None:
        """Download a release afresh and compare every file with its manifest."""
        choose_format(format, json=json, quiet=quiet)
        with errors_end_here():
            from hubdpo.hub.verify import verify as run

            found = run(release)
            console.result(
                f"verified: {found.repo}@{found.tag}, {len(found.files)} files at {found.commit}",
                found.model_dump(mode="json"),
                identifier=f"{found.repo}@{found.tag}",
            )
