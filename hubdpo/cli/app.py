"""`hubdpo`: raw preference data → Hub dataset → QLoRA DPO adapter → versioned release."""

from __future__ import annotations

import sys
import traceback
from typing import Annotated, Any

import typer

from hubdpo import console
from hubdpo.cli import hub, local, releases, stages
from hubdpo.cli.command import error_boundary
from hubdpo.cli.diff import diff
from hubdpo.cli.mistakes import explained
from hubdpo.cli.retyped import spell
from hubdpo.cli.several import OnceEach, UsageError
from hubdpo.cli.signals import signals_unwind
from hubdpo.cli.streams import lossy_streams
from hubdpo.cli.view import view
from hubdpo.errors import BugElsewhere
from hubdpo.machine.endings import leave_bug
from hubdpo.machine.refusals import undecodable
from hubdpo.version import __version__

app = typer.Typer(
    name="hubdpo",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(requested: bool) -> None:
    if requested:
        console.result(f"hubdpo {__version__}", {"version": __version__})
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Turn preference data into a versioned, verified QLoRA DPO adapter on the Hub."""
    with error_boundary():
        if problem := undecodable(sys.argv[1:]):
            raise problem


for run in (
    stages.prepare, stages.train, stages.sweep, stages.adopt, stages.evaluate, stages.push, releases.verify,
    releases.versions, diff, releases.inspect, view, stages.merge, stages.export, releases.load, hub.serve_hub,
    local.doctor, local.demo,
):  # fmt: skip
    app.command(run.__name__.replace("_", "-"), cls=OnceEach)(run)


def main() -> None:
    """Run the command line. `_` works for `-` in option names; the traceback of a bug is shown without credentials."""
    console.quiet_libraries()
    arguments = [spell(argument) for argument in sys.argv[1:]] or ["--help"]
    with lossy_streams(), signals_unwind(), console.library_warnings():
        try:
            # Typer's own exit codes come back as numbers, and what it refuses as exceptions
            sys.exit(app(args=arguments, standalone_mode=False) or 0)
        except typer.Abort:
            sys.exit(1)
        except UsageError as refusal:
            problem = explained(refusal, arguments, commands())
            console.error(problem.message)
            console.hint(problem.hint or "hubdpo --help")
            sys.exit(problem.exit_code)
        except Exception as problem:
            trace = str(problem) if isinstance(problem, BugElsewhere) else traceback.format_exc()
            if not leave_bug(trace):
                console.bug(trace)
            sys.exit(1)


def commands() -> dict[str, Any]:
    """Return the commands by name, in the order of `hubdpo --help`."""
    return dict(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
