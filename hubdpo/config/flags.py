"""Write options as the words of a command line."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from hubdpo.config.base import Config, flag_of

Options = Mapping[str, Any]
"""Options of a command, by field of its config."""


def flags(values: Options, model: type[Config]) -> Iterator[str]:
    """Yield the command-line options that differ from this version's defaults."""
    for name, value in changed_options(values, model):
        flag = flag_of(name)
        if isinstance(value, bool):
            yield flag if value else f"--no-{flag[2:]}"
        elif isinstance(value, list):
            yield " ".join(f"{flag} {quoted(item)}" for item in value)
        elif isinstance(value, dict):
            yield f"{flag} {quoted(json.dumps(value, sort_keys=True))}"
        else:
            yield f"{flag} {quoted(value)}"


def changed_options(values: Options, model: type[Config]) -> Iterator[tuple[str, object]]:
    """Yield (name, value) of the options that differ from this version's defaults."""
    for name, value in values.items():
        field = model.model_fields.get(name)
        default = field.default if field is not None else None
        if value is not None and value != default:
            yield name, value


def quoted(value: object) -> str:
    """Return a value as one word of a shell, in one line."""
    return shlex.quote(" ".join(str(value).splitlines()))
