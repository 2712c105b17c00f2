"""`hubdpo inspect`"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated

import typer

from hubdpo import console
from hubdpo.cli.command import command

MAX_LISTED = 40
"""Columns, or other items of a list, in the table for people; JSON has them all."""


def register(app: typer.Typer) -> None:
    @command(app)
    def inspect(
        ref: Annotated[str, typer.Argument(help="A folder, or a repo on the Hub.", metavar="DIR|USER/NAME[@REV]")],
    ) -> None:
        """Describe an adapter, a merged model or a dataset, its problems, and how to run it elsewhere."""
        from hubdpo.artefacts.manifests.bundle import A_KIND
        from hubdpo.hub.reference import parse_ref
        from hubdpo.release.inspect import inspect as run

        report = run(ref)
        console.table(["", report.kind], [(name, _cell(value)) for name, value in report.facts.items()])
        for finding in report.findings:
            console.warn(f"`{finding.field}` {finding.message}")
            if finding.hint:
                console.hint(finding.hint)
        for way in report.ways:
            state = f"blocked by {', '.join(way.broken_by)}" if way.broken_by else "no known blockers"
            console.info("", f"── {way.name}: {state}", *way.code.splitlines())
        count = len(report.findings)
        problems = f"{count} problem{'' if count == 1 else 's'} found" if count else "no problems found"
        console.result(
            f"{report.ref}: {A_KIND[report.kind]}, {problems}", report.as_dict(),
            identifier=f"{parse_ref(report.ref).repo_id}@{report.commit}" if report.commit else report.ref,
        )  # fmt: skip


def _cell(value: object) -> str:
    if isinstance(value, Mapping):
        return _listed(f"{name} {_cell(inner)}" for name, inner in value.items())
    if isinstance(value, list):
        return _listed(map(str, value))
    return f"{value:,}" if isinstance(value, int) else str(value)


def _listed(items: Iterable[str]) -> str:
    """Join the first MAX_LISTED items, and count the others."""
    texts = list(items)
    more = f" and {len(texts) - MAX_LISTED:,} more" if len(texts) > MAX_LISTED else ""
    return ", ".join(texts[:MAX_LISTED]) + more
