"""`hubdpo`: raw preference data → Hub dataset → QLoRA DPO adapter → versioned release."""

from __future__ import annotations

import sys
import traceback
from typing import Annotated

import typer

from hubdpo import console
from hubdpo.cli import (
    demo,
    diff,
    doctor,
    evaluate,
    inspect,
    load,
    merge,
    prepare,
    push,
    serve_hub,
    train,
    verify,
    versions,
)
from hubdpo.cli._options import errors_end_here, meant_option
from hubdpo.cli.signals import signals_unwind
from hubdpo.cli.streams import lossy_streams
from hubdpo.errors import BugElsewhere, ConfigError
from hubdpo.machine.endings import leave_bug
from hubdpo.machine.refusals import unspelled
from hubdpo.version import __version__

app = typer.Typer(
    name="hubdpo",
    help="Preference data in, a versioned and verified QLoRA DPO adapter on the Hub out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        console.result(f"hubdpo {__version__}", {"version": __version__})
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Preference data in, a versioned and verified QLoRA DPO adapter on the Hub out."""
    with errors_end_here():
        if told := unspelled(sys.argv[1:]):
            raise told


for module in (prepare, train, evaluate, push, verify, versions, diff, inspect, merge, load, serve_hub, doctor, demo):
    module.register(app)


def main() -> None:
    """Run the command line; `_` is accepted for `-` in option names. A bug shows its traceback, credentials cut."""
    arguments = [spell(argument) for argument in sys.argv[1:]]
    with lossy_streams(), signals_unwind(), console.library_warnings():
        try:
            app(args=arguments)
        except SystemExit as end:
            if end.code == ConfigError.exit_code and (option := meant_option(arguments)):
                console.hint(option)
            raise
        except Exception as problem:
            trace = str(problem) if isinstance(problem, BugElsewhere) else traceback.format_exc()
            if not leave_bug(trace):
                console.bug(trace)
            sys.exit(1)


def spell(argument: str) -> str:
    """Write `--max_steps=3` as `--max-steps=3`, leaving values and `--` alone."""
    if not argument.startswith("--") or argument == "--":
        return argument
    flag, equals, value = argument.partition("=")
    return flag.replace("_", "-") + equals + value
