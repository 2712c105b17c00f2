"""From a config model to a Typer command: the signature, `--config`, output formats, and the one place that catches."""

from __future__ import annotations

import inspect
import os
import shlex
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args, get_origin

import typer
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from hubdpo import console
from hubdpo.cli.signals import stopped_by
from hubdpo.config import Cli, Config
from hubdpo.errors import HubdpoError, Stopped
from hubdpo.machine.endings import LAUNCHED, leave_error
from hubdpo.machine.refusals import Place, machine_error

OUTPUT = "Output"
ConfigOption = Annotated[Path | None, typer.Option("--config", help="YAML file of options; flags win over it.")]
FormatOption = Annotated[
    console.Format | None, typer.Option("--format", help="How the result is written.", rich_help_panel=OUTPUT)
]
JsonOption = Annotated[bool, typer.Option("--json", help="The result as JSON.", rich_help_panel=OUTPUT)]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="The identifier alone.", rich_help_panel=OUTPUT)]

PLACES = ("output_dir", "run_dir", "folder")
"""Options that say where a command writes."""
MODELS: dict[str, type[Config]] = {}
"""The options of each command that has a config."""


def command(app: typer.Typer, model: type[Config], **settings: Any) -> Callable[[Callable[[Any], None]], None]:
    """Register a function of one config as a command whose options are the fields of `model`.

    `--config`, `--json`, `-q` and (unless the model has a `format` of its own) `--format` are added.
    """

    def register(body: Callable[[Any], None]) -> None:
        def run(**options: Any) -> None:
            file = options.pop("config")
            output = None if "format" in model.model_fields else options.pop("format")
            choose_format(output, json=options.pop("json"), quiet=options.pop("quiet"))
            with errors_end_here() as edge:
                config = model.build({k: v for k, v in options.items() if v not in (None, [])}, file=file)
                edge.places = [place for name in PLACES if (place := getattr(config, name, None))]
                body(config)

        parameters = [_parameter(name, field) for name, field in model.model_fields.items()]
        parameters.append(_keyword("config", ConfigOption, None))
        if "format" not in model.model_fields:
            parameters.append(_keyword("format", FormatOption, None))
        parameters += [_keyword("json", JsonOption, False), _keyword("quiet", QuietOption, False)]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__doc__ = body.__doc__
        name = body.__name__.replace("_", "-")
        MODELS[name] = model
        app.command(name, **settings)(run)

    return register


def meant_option(arguments: list[str]) -> str | None:
    """Return the option that the first unknown one of a command line most likely means, None when all are known."""
    model = MODELS.get(arguments[0]) if arguments else None
    if model is None:
        return None
    known = {*model.model_fields, *(f"no_{name}" for name in model.model_fields), "config", "format", "json", "quiet"}
    for argument in arguments[1:]:
        name = argument[2:].partition("=")[0].replace("-", "_")
        if argument.startswith("--") and name not in known and (near := model.near_field(name)):
            return "--" + near.replace("_", "-")
    return None


def typed(place: str | Path) -> str:
    """Return a place as it is typed on a command line, where blanks end a word and a dash begins an option."""
    return shlex.quote(f"./{place}" if str(place).startswith("-") else str(place))


def choose_format(value: console.Format | None, *, json: bool, quiet: bool) -> None:
    if json:
        value = console.Format.json
    elif quiet:
        value = console.Format.quiet
    if value is not None:
        console.use_format(value)


class errors_end_here:  # noqa: N801 - read as a statement: `with errors_end_here():`
    """Turn a HubdpoError into its message, hint and exit code, and so what this machine refuses; a bug keeps its
    traceback. `places` are folders that the body writes to."""

    places: Sequence[Place] = ()

    def __enter__(self) -> Self:
        console.quiet_libraries()
        return self

    def __exit__(self, kind: type[BaseException] | None, problem: BaseException | None, trace: object) -> None:
        if isinstance(problem, Exception) and not isinstance(problem, HubdpoError):
            problem = machine_error(problem, self.places)
        if isinstance(problem, HubdpoError):
            if not leave_error(problem):
                console.error(problem.message)
                if problem.hint:
                    console.hint(problem.hint)
            raise typer.Exit(problem.exit_code) from None
        if isinstance(problem, KeyboardInterrupt):
            number = stopped_by()
            if LAUNCHED not in os.environ:  # else the process that was asked tells it
                console.error("stopped" if number is signal.SIGINT else f"stopped by {number.name}")
            if isinstance(problem, Stopped):
                console.hint(problem.hint)
            raise typer.Exit(128 + number) from None


def _parameter(name: str, field: FieldInfo) -> inspect.Parameter:
    cli = next((item for item in field.metadata if isinstance(item, Cli)), Cli())
    # rich reads brackets as markup
    text = (field.description or "").replace("[", "\\[")
    bare = str if cli.text else _bare(field.annotation)
    if cli.argument:
        # a value may also come from --config, so that the model, not Typer, says what is missing
        return _keyword(name, Annotated[bare | None, typer.Argument(help=text, metavar=cli.metavar)], None)
    flag = "--" + name.replace("_", "-")
    flags = [f"{flag}/--no-{flag[2:]}"] if bare is bool else [flag]
    if cli.short:
        flags.append(cli.short)
    default = field.get_default(call_default_factory=True)
    if default is not PydanticUndefined and default not in (None, [], False):
        shown = " ".join(map(str, default)) if isinstance(default, list) else default
        text += f" \\[default: {shown}]"
    elif field.is_required():
        text += " \\[required]"
    option = typer.Option(*flags, help=text, metavar=cli.metavar, show_default=False, rich_help_panel=cli.panel)
    return _keyword(name, Annotated[bare | None, option], None)


def _bare(annotation: Any) -> Any:
    """Drop `| None`, and turn a Literal of words into text: the model checks the words and explains them."""
    kinds = [kind for kind in get_args(annotation) if kind is not type(None)]
    if type(None) in get_args(annotation) and len(kinds) == 1:
        annotation = kinds[0]
    if get_origin(annotation) is Literal:
        return str
    return annotation


def _keyword(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)
