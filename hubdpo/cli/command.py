"""Turn config models or Typer parameters into commands, with output formats and one place that reports errors."""

from __future__ import annotations

import difflib
import functools
import inspect
import os
import shlex
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, get_args

import typer
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from hubdpo import console
from hubdpo.artefacts.folders.named import check_named, what_is
from hubdpo.cli.help import starting_with
from hubdpo.cli.retyped import put_right
from hubdpo.cli.several import OUTPUT_PANEL
from hubdpo.cli.signals import stopped_by
from hubdpo.config import Config
from hubdpo.config.base import flag_of, item_type
from hubdpo.errors import ConfigError, HubdpoError, Stopped
from hubdpo.machine.endings import LAUNCHED, leave_error
from hubdpo.machine.refusals import AGAIN, Place, machine_error

CONFIG = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="YAML file of options; flags override it.")
]
FORMAT = Annotated[
    str | None,
    typer.Option(
        "--format",
        metavar="|".join(console.Format),
        help="Output format of the result.",
        rich_help_panel=OUTPUT_PANEL,
        autocompletion=starting_with(console.Format),
    ),
]
JSON = Annotated[bool, typer.Option("--json", help="Print the result as JSON.", rich_help_panel=OUTPUT_PANEL)]
QUIET = Annotated[bool, typer.Option("--quiet", "-q", help="Print only the identifier.", rich_help_panel=OUTPUT_PANEL)]

_keyword = functools.partial(inspect.Parameter, kind=inspect.Parameter.KEYWORD_ONLY, default=None)
DOWNLOADED = f"{AGAIN}: files that were downloaded are kept"
OUTPUT_FOLDERS = ("output_dir", "folder")
"""Options that name the folder a command writes to."""
VALUES: dict[type, str] = {int: "N", float: "NUMBER", str: "TEXT", Path: "PATH"}
"""How `--help` names a value of a type."""
LONGEST_METAVAR = 40
"""Columns that choices may take beside an option; longer ones are listed in its description."""
MODELS: dict[str, type[Config]] = {}
"""The config model of each command that has one."""

Body = Callable[..., None]


def command(model: type[Config] | None = None, *, stopped: str | None = AGAIN) -> Callable[[Body], Body]:
    """Turn a function into a command, named after the function, that Typer can register.

    With a `model` the function takes one config: the fields of the model become options, beside `--config`. Without
    one, the function's own Typer parameters are used. Every command also gets `--format`, `--json` and `--quiet`;
    errors are reported by `error_boundary`. `stopped` says how to go on after Ctrl-C, unless the stage knows better and
    raises Stopped; None for what nobody goes on with.
    """

    def decorate(body: Body) -> Body:
        name = body.__name__.replace("_", "-")

        def run(*, format: str | None, json: bool, quiet: bool, **options: Any) -> None:
            given = console.Format.json if json else console.Format.quiet if quiet else format
            output = next((known for known in console.Format if known == given), None)
            with console.written_as(output, as_typed=True), error_boundary(stopped, name, model) as folders:
                if given and output is None:
                    raise _no_output_format(given, model)
                if model is None:
                    body(**options)
                    return
                file = options.pop("config")
                config = model.build({k: v for k, v in options.items() if v not in (None, [])}, file=file)
                check_places(config)
                folders += [folder for name in OUTPUT_FOLDERS if (folder := getattr(config, name, None))]
                body(config)

        if model is None:
            own = inspect.signature(body, eval_str=True).parameters.values()
            parameters = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own]
        else:
            options = [(name, field) for name, field in model.model_fields.items() if not model.cli(name).file_only]
            parameters = [_parameter(model, name, field) for name, field in options]
            parameters.append(_keyword("config", annotation=CONFIG))
        parameters.append(_keyword("format", annotation=FORMAT))
        parameters += [_keyword(n, annotation=kind, default=False) for n, kind in (("json", JSON), ("quiet", QUIET))]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__name__, run.__doc__ = body.__name__, body.__doc__
        if model is not None:
            MODELS[body.__name__] = model
        return run

    return decorate


def check_places(config: Config) -> None:
    """Raise ArtefactError for an option that names a folder of another kind, or one that is not there, and ConfigError
    for a base and a dataset in each other's place.

    What reads the folders says the same, seconds later: it has libraries to import first.
    """
    base, data = (str(getattr(config, name, None) or "") for name in ("model_name_or_path", "dataset"))
    if base and data and what_is(Path(base)) == "dataset" and what_is(Path(data)) in ("model", "merged model"):
        raise ConfigError(
            f"`{base}` is a dataset and `{data}` a model, so they are exchanged",
            hint=f"--model-name-or-path {shlex.quote(data)} --dataset {shlex.quote(base)}",
        )
    for name in type(config).model_fields:
        given = getattr(config, name)
        for place in given if isinstance(given, list) else [given]:
            if place and (wanted := config.cli(name).names):
                check_named(place, wanted)


def typed(path: str | Path) -> str:
    """Quote a path for a shell command, so that a leading dash is not read as an option."""
    return shlex.quote(f"./{path}" if str(path).startswith("-") else str(path))


@contextmanager
def error_boundary(
    stopped: str | None = None, command: str | None = None, model: type[Config] | None = None
) -> Iterator[list[Place]]:
    """Report a HubdpoError, or a failure of this machine, as a message and a hint, and exit with its code.

    A bug keeps its traceback. The body adds the folders that it writes to. `stopped` is the hint after Ctrl-C. A hint
    that changes options of the `command`, which `model` has, is shown as the whole line.
    """
    folders: list[Place] = []
    try:
        yield folders
    except KeyboardInterrupt as stop:
        number = stopped_by()
        if LAUNCHED not in os.environ:  # the launching process reports it
            console.error("stopped" if number is signal.SIGINT else f"stopped by {number.name}")
            if hint := stop.hint if isinstance(stop, Stopped) else stopped:
                console.hint(hint)
        raise typer.Exit(128 + number) from None
    except Exception as problem:
        known = problem if isinstance(problem, HubdpoError) else machine_error(problem, folders)
        if known is None:
            raise
        if not leave_error(known):
            message, hints = put_right(known, command, model)
            console.error(message)
            for hint in hints:
                console.hint(hint)
        raise typer.Exit(known.exit_code) from None


def _no_output_format(given: str, model: type[Config] | None) -> ConfigError:
    """Return the error for a word after `--format`: slightly misspelt, or a converter, as it named one until 0.4."""
    near = difflib.get_close_matches(given, console.Format, n=1)
    hint = f"--format {near[0]}" if near else f"one of: {', '.join(console.Format)}"
    if not near and model is not None and "converter" in model.model_fields:
        hint = f"--converter {shlex.quote(given)}"
    return ConfigError(f"`--format` is the output format, and there is no `{given}`", hint=hint)


def _parameter(model: type[Config], name: str, field: FieldInfo) -> inspect.Parameter:
    cli = model.cli(name)
    text = field.description or ""
    bare = _bare(field.annotation)
    # numbers too are taken as text, which the model reads, so that it names every bad value at once
    taken = bare if bare in (bool, Path) else list[str] if item_type(bare) else str
    kind = list[str] if model.several and bare is not bool else taken
    if cli.argument:
        # never required by Typer, because the value may come from --config: the model reports what is missing
        return _keyword(
            name, annotation=Annotated[bare | None, typer.Argument(help=text, metavar=cli.metavar)], default=None
        )
    flag = flag_of(name)
    flags = [f"{flag}/--no-{flag[2:]}"] if bare is bool else [flag]
    if cli.short:
        flags.append(cli.short)
    default = field.default
    if default is not PydanticUndefined and default not in (None, [], False, ""):
        shown = " ".join(map(str, default)) if isinstance(default, list) else default
        text += f" [default: {shown}]"
    elif field.is_required() or cli.needed_unless:
        text += " [required]"
    choices = model.choices_of(name)
    metavar = cli.metavar or "|".join(choices) or VALUES.get(item_type(bare) or bare)
    if metavar and len(metavar) > LONGEST_METAVAR:
        text, metavar = f"{text} One of: {', '.join(choices)}.", "NAME"
    if metavar and name in model.several:
        metavar += "..."
    option = typer.Option(
        *flags, help=text, metavar=metavar, show_default=False, rich_help_panel=model.panel_of(name),
        autocompletion=starting_with(choices) if choices else None,
    )  # fmt: skip
    return _keyword(name, annotation=Annotated[kind | None, option])


def _bare(annotation: Any) -> Any:
    kinds = [kind for kind in get_args(annotation) if kind is not type(None)]
    return kinds[0] if type(None) in get_args(annotation) and len(kinds) == 1 else annotation
