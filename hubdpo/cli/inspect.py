"""`hubdpo inspect`"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import typer

from hubdpo import console
from hubdpo.cli._options import FormatOption, JsonOption, QuietOption, choose_format, errors_end_here

MOST_SHOWN = 40
"""Columns, and whatever else is a list, in the table for people."""


def register(app: typer.Typer) -> None:
    @app.command()
    def inspect(
        what: Annotated[str, typer.Argument(help="A folder, or a repo on the Hub.", metavar="DIR|USER/NAME[@REV]")],
        format: FormatOption = None,
        json: JsonOption = False,
        quiet: QuietOption = False,
    ) -> None:
        """Show what an adapter or a dataset is, what is wrong with it, and how to run it elsewhere."""
        choose_format(format, json=json, quiet=quiet)
        with errors_end_here():
            from hubdpo.hub.reference import parse_ref
            from hubdpo.release.inspect.inspect import inspect as run

            found = run(what)
            console.table(["", found.kind], [(name, _shown(value)) for name, value in found.facts.items()])
            for finding in found.findings:
                console.warn(f"`{finding.field}` {finding.message}")
                if finding.hint:
                    console.hint(finding.hint)
            for way in found.ways:
                stands = f"broken by {', '.join(way.broken_by)}" if way.broken_by else "nothing known stands in the way"
                console.info("", f"── {way.name}: {stands}", *way.code.splitlines())
            count = len(found.findings)
            told = f"{count} thing{'' if count == 1 else 's'} to look at" if count else "nothing is wrong with it"
            console.result(
                f"{found.ref}: {found.kind}, {told}", found.as_dict(),
                identifier=f"{parse_ref(found.ref).repo_id}@{found.commit}" if found.commit else found.ref,
            )  # fmt: skip


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return _first(f"{name} {_shown(inner)}" for name, inner in value.items())
    if isinstance(value, list):
        return _first(map(str, value))
    return f"{value:,}" if isinstance(value, int) else str(value)


def _first(parts: Iterable[str]) -> str:
    """Join MOST_SHOWN of the parts, and say how many more there are; JSON has them all."""
    shown = list(parts)
    more = f" and {len(shown) - MOST_SHOWN:,} more" if len(shown) > MOST_SHOWN else ""
    return ", ".join(shown[:MOST_SHOWN]) + more
