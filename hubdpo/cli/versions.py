"""`hubdpo versions`"""

from __future__ import annotations

from typing import Annotated

import typer

from hubdpo import console
from hubdpo.cli._options import FormatOption, JsonOption, QuietOption, choose_format, errors_end_here


def register(app: typer.Typer) -> None:
    @app.command()
    def versions(
        repo: Annotated[str, typer.Argument(help="A dataset or adapter on the Hub.", metavar="USER/NAME")],
        format: FormatOption = None,
        json: JsonOption = False,
        quiet: QuietOption = False,
    ) -> None:
        """List the releases of a repo, newest first."""
        choose_format(format, json=json, quiet=quiet)
        with errors_end_here():
            from hubdpo.release.list import releases

            found = releases(repo)
            rows = [
                (
                    one.tag,
                    one.date,
                    one.commit[:12],
                    one.kind or "not by hubdpo",
                    one.bytes or "-",
                    "main" if one.on_main else "",
                )
                for one in found
            ]
            console.table(["version", "date", "commit", "kind", "bytes", "main"], rows)
            count = f"{len(found)} release{'' if len(found) == 1 else 's'}"
            console.result(
                f"{repo}: {count}",
                {"repo": repo, "releases": [one.as_dict() for one in found]},
                identifier="\n".join(f"{repo}@{one.tag}" for one in found),
            )
            if found:
                console.hint(f"hubdpo verify {repo}@{found[0].tag}")
