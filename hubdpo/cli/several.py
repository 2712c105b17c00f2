"""How often an option may be given: once, or several times where it is a list, also as `--beta 0.05 0.1`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

import typer

from hubdpo.cli.help import HelpCommand

UsageError: Any = typer.BadParameter.__base__
"""What Typer raises for any line that it refuses."""
OUTPUT_PANEL = "Output"
"""Heading of the options that say how the result is written, of which one counts."""
NEGATIVE = re.compile(r"-\.?\d")


class OnceEach(HelpCommand):
    """A command that refuses an option given twice, of which Typer would take the last; a list may be.

    Without arguments, a word that follows the value of a list is another value of it.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        args = [*with_names(args, self.get_params(ctx))]
        left: list[str] = super().parse_args(ctx, [*args])
        if not ctx.resilient_parsing:
            _, _, given = self.make_parser(ctx).parse_args(args)
            once = [counted_as(option) for option in given if not takes_several(option)]
            if twice := [name for name in once if once.count(name) > 1]:
                raise UsageError(f"`{twice[0]}` is given twice")
        return left


def takes_several(parameter: Any) -> bool:
    """Return whether an option, or an argument, has a list of values."""
    return bool(getattr(parameter, "multiple", False)) or parameter.nargs != 1


def counted_as(option: Any) -> str:
    """Return the name under which an option may be given once."""
    return OUTPUT_PANEL if getattr(option, "rich_help_panel", None) == OUTPUT_PANEL else str(option.name)


def with_names(words: Iterable[str], parameters: Iterable[Any]) -> Iterable[str]:
    """Return the words of a command line, for a command without arguments as `repeated` does."""
    if any(parameter.param_type_name == "argument" for parameter in parameters):
        return words
    return repeated(words, {name for option in parameters if takes_several(option) for name in option.opts})


def repeated(words: Iterable[str], options: set[str]) -> Iterator[str]:
    """Yield the words of a command line, with the name of the option before each of its further values."""
    words, option = iter(words), None
    for word in words:
        name, equals, _ = word.partition("=")
        if name in options:
            option = name
            yield word
            if not equals and (value := next(words, None)) is not None:
                yield value
        elif word.startswith("-") and not NEGATIVE.match(word):
            option = None
            yield word
        else:
            if option is not None:
                yield option
            yield word
