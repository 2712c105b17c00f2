"""A page for each command, from its config model or its Typer parameters."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo

from hubdpo.cli import app
from hubdpo.cli.command import LONGEST_METAVAR, MODELS
from hubdpo.cli.help import ARGUMENTS, GENERAL
from hubdpo.config import Config
from tests.reference import exit_codes
from tests.reference.markdown import code, prose, table

RESULTS = tomllib.loads(Path(__file__).with_name("results.toml").read_text(encoding="utf-8"))
ALWAYS = (0, 1, 2, 9)
"""Exit codes that every command may end with."""
FILE_ONLY = "In a config file or from Python"
BOUNDS = {"ge": "from", "gt": "above", "le": "up to", "lt": "below"}
COMMANDS = app.commands()


def names() -> list[str]:
    """Return the commands, in the order of `hubdpo --help`."""
    return list(COMMANDS)


def model_of(name: str) -> type[Config] | None:
    """Return the config model of a command; None if it has none."""
    return MODELS.get(name.replace("-", "_"))


def index() -> str:
    """Return the page that lists the commands."""
    rows = [(f"[`hubdpo {name}`]({name}.md)", prose(_paragraphs(name)[0])) for name in names()]
    contents = "\n".join(names())
    return f"""# Commands

{table(["command", "what it does"], rows)}

`hubdpo --version` prints the version. Every command takes `--help`, and most of them `--json` and `--quiet`: the result
goes to stdout, as one JSON object or as an identifier alone; progress and messages go to stderr. The
[exit code](../exit-codes.md) says what kind of failure there was.

## Names of options

An option has one name everywhere. Without its dashes, and with `_` for `-`, it is the key of a config file and the
keyword in Python: `--max-length 2048` is `max_length: 2048` in a file that `--config FILE` names, and
`max_length=2048` in a call. On the command line `_` works as well. An option that is on by default is turned off with
`--no-...`, and with `false` in a file. Options of the command line override those of the file.

```{{toctree}}
:hidden:

{contents}
```
"""


def page(name: str) -> str:
    """Return the page of a command."""
    first, *more = _paragraphs(name)
    usage = " ".join(["hubdpo", name, "[OPTIONS]", *(p.metavar for p in COMMANDS[name].params if _is_argument(p))])
    parts = [f"# hubdpo {name}", prose(first), f"```text\n{usage}\n```", *map(prose, more)]
    parts += [f"## {panel}\n\n{text}" for panel, text in _panels(name)]
    result = RESULTS[name]
    parts.append(f"## What it prints\n\nWith `--json`: {result['json'].strip()}")
    if result["quiet"]:
        parts.append(f"With `--quiet`: {result['quiet']}.")
    numbers = ", ".join(map(str, sorted({*ALWAYS, *result["exits"]})))
    meaning = exit_codes.meanings()
    kinds = {number: [k.__name__ for k in exit_codes.classes() if k.exit_code == number] for number in result["exits"]}
    rows = [(str(number), prose("; ".join(meaning[kind] for kind in kinds[number]))) for number in kinds]
    own = f"\n\n{table(['code', 'meaning'], rows)}" if rows else ""
    parts.append(f"## Exit codes\n\n{numbers}, and those of signals: see [Exit codes](../exit-codes.md).{own}")
    return "\n\n".join(parts) + "\n"


def _paragraphs(name: str) -> list[str]:
    return [" ".join(text.split()) for text in (COMMANDS[name].help or "").split("\n\n")]


def _is_argument(parameter: Any) -> bool:
    return bool(parameter.param_type_name == "argument")


def _panels(name: str) -> Iterator[tuple[str, str]]:
    """Yield the heading and the table of each group of options, as `--help` groups them."""
    model, groups = model_of(name), dict[str, list[tuple[str, ...]]]()
    for parameter in COMMANDS[name].params:
        panel = ARGUMENTS if _is_argument(parameter) else getattr(parameter, "rich_help_panel", None) or GENERAL
        field = model.model_fields.get(parameter.name) if model is not None else None
        row = _of_field(model, parameter, field) if model is not None and field is not None else _of_typer(parameter)
        groups.setdefault(panel, []).append(row)
    for panel, rows in groups.items():
        yield panel, table(["argument" if panel == ARGUMENTS else "option", "values", "default", "meaning"], rows)
    if model is not None and (only := [key for key in model.model_fields if model.cli(key).file_only]):
        rows = [(code(key), "", "", prose(model.model_fields[key].description or "")) for key in only]
        yield FILE_ONLY, table(["key", "values", "default", "meaning"], rows)


def _named(parameter: Any) -> str:
    if _is_argument(parameter):
        return code(parameter.metavar)
    flags = [*sorted(parameter.opts, key=len, reverse=True), *parameter.secondary_opts]
    return ", ".join(map(code, flags))


def _of_typer(parameter: Any) -> tuple[str, ...]:
    default = parameter.default
    switch = "on" if default else "off" if parameter.secondary_opts else ""
    shown = switch if isinstance(default, bool) else "" if default in (None, [], ()) else code(default)
    values = "" if _is_argument(parameter) else code(parameter.metavar or "")
    return _named(parameter), values, "needed" if parameter.required else shown, prose(parameter.help or "")


def _of_field(model: type[Config], parameter: Any, field: FieldInfo) -> tuple[str, ...]:
    """Return the row of an option that a model declares."""
    name, choices = str(parameter.name), model.choices_of(str(parameter.name))
    metavar = parameter.metavar or ""
    listed = len("|".join(choices)) > LONGEST_METAVAR
    values = ", ".join(map(code, choices)) if listed else code("" if _is_argument(parameter) else metavar)
    bounds = [
        f"{words} {value:,}" if isinstance(value, int) else f"{words} {value}"
        for item in field.metadata
        for key, words in BOUNDS.items()
        if isinstance(value := getattr(item, key, None), (int, float))
    ]
    values = ", ".join(filter(None, [values, " and ".join(bounds)]))
    if listed and name in model.several:
        values += ", several"
    return _named(parameter), values, _default(model, name, field), prose(field.description or "")


def _default(model: type[Config], name: str, field: FieldInfo) -> str:
    if unless := model.cli(name).needed_unless:
        fields = [code(other if model.cli(other).file_only else f"--{other.replace('_', '-')}") for other in unless]
        return f"needed, unless {' or '.join(fields)} is given"
    if field.is_required():
        return "needed"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, bool):
        return "on" if value else "off"
    if value is None or value in ("", [], {}, ()):
        return ""
    return code(" ".join(map(str, value)) if isinstance(value, list) else value)
