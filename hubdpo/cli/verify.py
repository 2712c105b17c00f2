"""`hubdpo verify`"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from hubdpo import console
from hubdpo.cli.command import command
from hubdpo.config.push import Check
from hubdpo.errors import ConfigError

if TYPE_CHECKING:
    from hubdpo.release.verify.verify import Verified


def register(app: typer.Typer) -> None:
    @command(app)
    def verify(
        release: Annotated[str, typer.Argument(help="A release on the Hub.", metavar="USER/NAME@vX.Y.Z")],
        check: Annotated[
            str, typer.Option(help="`load` the release too, or compare `hashes` only.", metavar="load|hashes")
        ] = "load",
    ) -> None:
        """Download a release, compare every file with its manifest, and load it.

        An adapter must give the log-probabilities that training recorded, on its pinned base; a dataset must have the
        recorded number of rows. Exits with 6 on a difference; a base whose main branch has moved is a warning.
        """
        if check not in ("load", "hashes"):
            raise ConfigError(f"option `--check` is not valid: {check!r}", hint="--check load, or --check hashes")
        from hubdpo.release.verify.verify import verify as run

        level: Check = "load" if check == "load" else "hashes"
        verified = run(release, check=level)
        name = f"{verified.repo}@{verified.tag}"
        console.result(
            f"verified: {name}, {len(verified.files)} files at {verified.commit}; {_outcome(verified)}",
            verified.model_dump(mode="json"),
            identifier=name,
        )


def _outcome(verified: Verified) -> str:
    if verified.checked == "hashes":
        return "hashes only, not loaded"
    if verified.splits is not None:
        return ", ".join(f"{console.counted(rows, 'row')} in {name}" for name, rows in verified.splits.items())
    if verified.probes is None:
        return "loads on its base; it has no probes to compare"
    if verified.probes.exact:
        return f"{verified.probes.answers} probes exactly as trained"
    return f"{verified.probes.answers} probes within {verified.probes.mean_difference:.1g} nats a token of training"
