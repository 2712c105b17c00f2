"""Give the function of a stage a signature from its config model, so that editors, `help()` and callers see options."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, Concatenate, TypeVar

from pydantic.fields import FieldInfo

from hubdpo.config.base import Config, Values
from hubdpo.errors import ConfigError

ConfigT = TypeVar("ConfigT", bound=Config)
ResultT = TypeVar("ResultT")

Resolve = Callable[[Values], tuple[Values, Values]]
"""Splits the options of a call into those to validate and further arguments of the function, such as rows in memory."""


def _all_options(options: Values) -> tuple[Values, Values]:
    return options, {}


def takes(
    model: type[ConfigT], *positional: str, resolve: Resolve = _all_options
) -> Callable[[Callable[Concatenate[ConfigT, ...], ResultT]], Callable[..., ResultT]]:
    """Let a function of one config be called with the config, or with its options.

    The fields named in `positional` come first and may be given by position, the others by keyword only. `resolve` may
    take options out before they are validated. The function then raises ConfigError, in one line, for an option that is
    unknown, missing, given twice or not valid.
    """

    def decorate(function: Callable[Concatenate[ConfigT, ...], ResultT]) -> Callable[..., ResultT]:
        @functools.wraps(function)
        def call(*arguments: Any, **options: Any) -> ResultT:
            if len(arguments) == 1 and isinstance(arguments[0], model):
                if options:
                    raise ConfigError(
                        f"`{function.__name__}` takes a {model.__name__} or options, not both: {', '.join(options)}",
                        hint="config.model_copy(update={...})",
                    )
                return function(arguments[0])
            validated, further = resolve(_named(function.__name__, positional, arguments, options))
            return function(model.build(validated), **further)

        call.__signature__ = signature(model, positional, inspect.signature(function).return_annotation)  # type: ignore[attr-defined]
        call.__doc__ = f"{inspect.getdoc(function)}\n\nOptions:\n{_help(model, positional)}"
        return call

    return decorate


def signature(model: type[Config], positional: tuple[str, ...], returns: object) -> inspect.Signature:
    """Return the signature of a function that takes the fields of `model`, those of `positional` first."""
    parameters = [
        inspect.Parameter(
            name,
            inspect.Parameter.POSITIONAL_OR_KEYWORD if name in positional else inspect.Parameter.KEYWORD_ONLY,
            annotation=_call_type(model, name, field),
            default=inspect.Parameter.empty if field.is_required() else field.get_default(call_default_factory=True),
        )
        for name, field in _ordered(model, positional)
    ]
    return inspect.Signature(parameters, return_annotation=returns)


def _named(function: str, positional: tuple[str, ...], arguments: tuple[Any, ...], options: Values) -> Values:
    """Give positional arguments their names. Raise ConfigError for too many, or for an option given twice."""
    if len(arguments) > len(positional):
        raise ConfigError(
            f"`{function}` takes {len(positional)} positional argument{'s' * (len(positional) > 1)}, "
            f"{', '.join(positional)}; {len(arguments)} were given",
            hint="give the other options by name",
        )
    named = dict(zip(positional, arguments, strict=False))
    if twice := [name for name in named if name in options]:
        raise ConfigError(f"`{function}` got `{twice[0]}` twice", hint="give it by position or by name, not both")
    return named | options


def _ordered(model: type[Config], positional: tuple[str, ...]) -> list[tuple[str, FieldInfo]]:
    fields = model.model_fields
    return [(name, fields[name]) for name in (*positional, *(name for name in fields if name not in positional))]


def _call_type(model: type[Config], name: str, field: FieldInfo) -> object:
    if (declared := model.cli(name).call_type) is not None:
        return declared
    return str | Path if field.annotation is Path else field.annotation


def _help(model: type[Config], positional: tuple[str, ...]) -> str:
    return "\n".join(f"    {name}: {field.description}" for name, field in _ordered(model, positional))
