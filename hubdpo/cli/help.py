"""The `--help` of a command: every option name whole at any width, in groups, with its choices."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable
from typing import Any

from rich.console import Console, Group
from rich.padding import Padding
from rich.panel import Panel
from rich.text import Text
from typer.core import TyperCommand

INDENT = 28
"""Columns of the names and values; longer ones stand above their description."""
WIDEST = 110
FRAME = 4
_NAMES = re.compile(r"(?<![\w-])--?[a-z][a-z0-9-]*")
GENERAL, ARGUMENTS = "General", "Arguments"


class HelpCommand(TyperCommand):
    """A command that shows its options like argparse. Typer's table cuts the names when a terminal is narrow."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        console = Console(highlight=False)
        console.width = min(console.width, WIDEST)
        usage = " ".join([ctx.command_path, *self.collect_usage_pieces(ctx)])
        paragraphs = [" ".join(paragraph.split()) for paragraph in (self.help or "").split("\n\n")]
        console.print(Padding(Text("\n\n".join([f"Usage: {usage}", *paragraphs])), 1))
        panels: dict[str, list[Text]] = {}
        for parameter in self.get_params(ctx):
            is_argument = parameter.param_type_name == "argument"
            panel = getattr(parameter, "rich_help_panel", None) or (ARGUMENTS if is_argument else GENERAL)
            panels.setdefault(panel, []).append(_entry(parameter, console.width - FRAME))
        for title, entries in panels.items():
            console.print(Panel(Group(*entries), title=title, title_align="left", border_style="dim"))


def _entry(parameter: Any, width: int) -> Text:
    """Return an option, or an argument: its names and value, and beside or below them what it is."""
    heading = parameter.metavar or ""
    if parameter.param_type_name == "option":
        names = sorted(parameter.opts, key=len, reverse=True)
        heading = f"{', '.join(names)}{''.join(f' / {name}' for name in parameter.secondary_opts)} {heading}"
    above = _wrapped(heading.strip(), width)
    below = _wrapped(parameter.help or "", width - INDENT)
    if len(above) == 1 and len(above[0]) < INDENT - 1 and below:
        above = [above[0].ljust(INDENT) + below.pop(0)]
    text = Text("\n".join([*above, *(" " * INDENT + line for line in below)]))
    text.highlight_regex(_NAMES, "bold cyan")
    return text


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)


def starting_with(choices: Iterable[str]) -> Any:
    """Return what completes one of these words in the shell, in the form that Typer takes."""

    def complete(incomplete: str) -> list[str]:
        return [choice for choice in choices if choice.startswith(incomplete)]

    return complete
