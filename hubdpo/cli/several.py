"""Take `--beta 0.05 0.1` for `--beta 0.05 --beta 0.1`, in a command whose options may have several values."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from hubdpo.cli.help import HelpCommand

NEGATIVE = re.compile(r"-\.?\d")


class SeveralValues(HelpCommand):
    """A command without arguments: a word that follows the value of an option is another value of it."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        options = [option for option in self.get_params(ctx) if not getattr(option, "is_flag", False)]
        names = {name for option in options for name in option.opts}
        left: list[str] = super().parse_args(ctx, [*repeated(args, names)])
        return left


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
