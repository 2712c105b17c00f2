"""`hubdpo verify`"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from hubdpo import console
from hubdpo.cli._options import FormatOption, JsonOption, QuietOption, choose_format, errors_end_here
from hubdpo.config.push import Check
from hubdpo.errors import ConfigError

if TYPE_CHECKING:
    from hubdpo.release.verify.verify import Verified


def register(app: typer.Typer) -> None:
    @app.command()
    def verify(
        release: Annotated[str, typer.Argument(help="A release on the Hub.", metavar="USER/NAME@vX.Y.Z")],
        check: Annotated[
            str, typer.Option(help="`load` it as well, or compare `hashes` alone.", metavar="load|hashes")
        ] = "load",
        format: FormatOption = None,
        json: JsonOption = False,
        quiet: QuietOption = False,
    ) -> None:
        """Download a release afresh, compare every file with its manifest, and load it.

        An adapter is loaded on its pinned base and must give the log-probabilities that training recorded; the rows of
        a dataset are counted. Exit code 6 when something differs; a base that has moved on is a warning.
        """
        choose_format(format, json=json, quiet=quiet)
        with errors_end_here():
            if check not in ("load", "hashes"):
                raise ConfigError(f"option `--check` is not valid: {check!r}", hint="--check load, or --check hashes")
            from hubdpo.release.verify.verify import verify as run

            level: Check = "load" if check == "load" else "hashes"
            found = run(release, check=level)
            console.result(
                f"verified: {found.repo}@{found.tag}, {len(found.files)} files at {found.commit}; {_in_words(found)}",
                found.model_dump(mode="json"),
                identifier=f"{found.repo}@{found.tag}",
            )


def _in_words(found: Verified) -> str:
    if found.checked == "hashes":
        return "by hash alone, not loaded"
    if found.splits is not None:
        return ", ".join(f"{rows:,} rows in {name}" for name, rows in found.splits.items())
    if found.probes is None:
        return "loads on its base; it has no probes to compare"
    if found.probes.exact:
        return f"{found.probes.answers} probes exactly as trained"
    return f"{found.probes.answers} probes within {found.probes.mean_difference:.1g} nats a token of training"
