"""Give the function of a stage a signature from its config model, so that editors, `help()` and callers see options."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from pydantic.fields import FieldInfo

from hubdpo import console
from hubdpo.config.base import Config, Values, item_type
from hubdpo.config.spelling import as_keyword, respell, respelled
from hubdpo.config.unknown import near_option, unknown_options
from hubdpo.config.wrong_value import as_one, needed
from hubdpo.errors import ConfigError, HubdpoError

ConfigT = TypeVar("ConfigT", bound=Config)
ResultT = TypeVar("ResultT")
P = ParamSpec("P")

Resolve = Callable[[Values], tuple[Values, Values]]
"""Splits the options of a call into those to validate and further arguments of the function, such as rows in memory."""


def takes(
    model: type[ConfigT], *positional: str, resolve: Resolve = lambda options: (options, {})
) -> Callable[[Callable[Concatenate[ConfigT, ...], ResultT]], Callable[..., ResultT]]:
    """Let a function of one config be called with the config, or with its options.

    The fields named in `positional` come first and may be given by position, the others by keyword only. `resolve` may
    take options out before they are validated. The function then raises ConfigError, in one line, for an option that is
    unknown, missing, given twice or not valid.
    """

    def decorate(function: Callable[Concatenate[ConfigT, ...], ResultT]) -> Callable[..., ResultT]:
        @functools.wraps(function)
        def call(*arguments: Any, **options: Any) -> ResultT:
            if not arguments and isinstance(options.get("config"), model):
                arguments = (options.pop("config"),)
            if len(arguments) == 1 and isinstance(arguments[0], model):
                if options:
                    raise ConfigError(
                        f"`{function.__name__}` takes a {model.__name__} or options, not both: {', '.join(options)}",
                        hint="config.model_copy(update={...})",
                    )
                with _spelled(model, function.__name__):
                    return function(arguments[0])
            named = _named(function.__name__, positional, arguments, options)
            if missing := _missing(function.__name__, model, positional, named):
                raise missing
            with _spelled(model, function.__name__):
                validated, further = resolve(named)
                return function(model.build(validated), **further)

        call.__signature__ = signature(model, positional, inspect.signature(function).return_annotation)  # type: ignore[attr-defined]
        heading = f"{inspect.getdoc(function)}\n\nOptions, or one `config`, a {model.__name__}:"
        options = [f"    {name}: {field.description}" for name, field in _ordered(model, positional)]
        call.__doc__ = "\n".join([heading, *options])
        return call

    return decorate


def _missing(function: str, model: type[Config], positional: Sequence[str], named: Values) -> ConfigError | None:
    """Return the error for the first argument that is needed and lacks, beside options that are unknown, if any."""
    known = sorted(model.model_fields)
    unknown = [name for name in named if name.replace("-", "_") not in known]
    meant = {near_option(name, known) for name in unknown}
    lacking = [name for name in positional if named.get(name) is None and model.is_needed(name, named)]
    if not lacking:
        return None
    problems = [unknown_options(unknown, known, f"help(hubdpo.{function})")] if unknown else []
    if name := next((name for name in lacking if name not in meant), None):
        problems.append(
            ConfigError(
                needed(f"`{name}`", model.model_fields[name].description or ""),
                hint=f"hubdpo.{function}({', '.join(positional)}, ...)",
            )
        )
    return as_one(problems)


def plain(function: Callable[P, ResultT]) -> Callable[P, ResultT]:
    """Let a function without a config raise ConfigError, in one line, for an option that is unknown or missing."""
    name, known = function.__name__, inspect.signature(function)

    @functools.wraps(function)
    def call(*arguments: P.args, **options: P.kwargs) -> ResultT:
        named = [*known.parameters]
        if unknown := [option for option in options if option not in named]:
            raise unknown_options(unknown, named, f"help(hubdpo.{name})")
        try:
            known.bind(*arguments, **options)
        except TypeError as problem:
            forms = [n if p.default is p.empty else f"{n}=..." for n, p in known.parameters.items()]
            raise ConfigError(f"`{name}`: {problem}", hint=f"hubdpo.{name}({', '.join(forms)})") from None
        return function(*arguments, **options)

    return call


@contextmanager
def _spelled(model: type[Config], function: str) -> Iterator[None]:
    """Name options in the errors, warnings and hints of the body as in a call of the function."""
    if console.output.as_typed:
        yield
        return
    spell = functools.partial(respelled, fields=model.model_fields, form=as_keyword)
    before = console.spell.set(spell)
    try:
        yield
    except HubdpoError as problem:
        respell(problem, spell)
        problem.hint = problem.hint and problem.hint.replace(f"hubdpo {function} --help", f"help(hubdpo.{function})")
        raise
    finally:
        console.spell.reset(before)


def signature(model: type[Config], positional: tuple[str, ...], returns: object) -> inspect.Signature:
    """Return the signature of a function that takes the fields of `model`, those of `positional` first."""
    # Python has no default before a parameter without one; None stands for a value that is not needed
    bare = {n for i, n in enumerate(positional) if any(model.model_fields[m].is_required() for m in positional[i:])}
    parameters = [
        inspect.Parameter(
            name,
            inspect.Parameter.POSITIONAL_OR_KEYWORD if name in positional else inspect.Parameter.KEYWORD_ONLY,
            annotation=_call_type(model, name, field),
            default=inspect.Parameter.empty if name in bare or field.is_required() else field.default,
        )
        for name, field in _ordered(model, positional)
    ]
    return inspect.Signature(parameters, return_annotation=returns)


def _named(function: str, positional: tuple[str, ...], arguments: tuple[Any, ...], options: Values) -> Values:
    """Give positional arguments their names. Raise ConfigError for too many, or for an option given twice."""
    if len(arguments) > len(positional):
        raise ConfigError(
            f"`{function}` takes {console.counted(len(positional), 'positional argument')}, "
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
    if field.annotation is Path:
        return str | Path
    item = item_type(field.annotation)
    one: Any = field.annotation if item is None else item | field.annotation
    return one | list[one] if name in model.several else one
