"""`hubdpo versions`"""

from __future__ import annotations

from typing import Annotated

import typer

from hubdpo import console
from hubdpo.cli.command import command


def register(app: typer.Typer) -> None:
    @command(app)
    def versions(
        repo: Annotated[str, typer.Argument(help="A dataset or adapter on the Hub.", metavar="USER/NAME")],
    ) -> None:
        """List the releases of a repo, newest first."""
        from hubdpo.release.list import releases

        found = releases(repo)
        rows = [
            (
                release.tag, release.date, release.commit[:12], release.kind or "not by hubdpo", release.bytes or "-",
                "main" if release.on_main else "",
            )
            for release in found
        ]  # fmt: skip
        console.table(["version", "date", "commit", "kind", "bytes", "main"], rows)
        console.result(
            f"{repo}: {len(found)} release{'' if len(found) == 1 else 's'}",
            {"repo": repo, "releases": [release.as_dict() for release in found]},
            identifier="\n".join(f"{repo}@{release.tag}" for release in found),
        )
        if found:
            console.hint(f"hubdpo verify {repo}@{found[0].tag}")
