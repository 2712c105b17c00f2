"""Find the code blocks of the pages that people read, and the commands in them."""

from __future__ import annotations

import shlex
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[2]
GENERATED = ROOT / "docs" / "reference" / "commands"
"""Synopses and tables: nothing to type."""
PAGES = [
    page
    for page in [*ROOT.glob("README*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/*.md")]
    if "_build" not in page.parts and GENERATED not in page.parents
]


@dataclass(frozen=True)
class Block:
    """The text of a fence, its language, and the number of its first line in the page."""

    page: Path
    line: int
    language: str
    text: str


@dataclass(frozen=True)
class Command:
    """A command as it is typed, with the lines that it goes on over joined."""

    page: Path
    line: int
    text: str

    @property
    def words(self) -> list[str]:
        return shlex.split(self.text, comments=True)

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path) -> Iterator[Block]:
    """Return the fences of a page, also those inside lists, in order."""
    for token in MarkdownIt().parse(page.read_text(encoding="utf-8")):
        if token.type == "fence" and token.map:
            yield Block(page, token.map[0] + 2, token.info.split(" ")[0], token.content)


def commands(block: Block) -> Iterator[Command]:
    """Return the commands of a shell block, without those that are comments alone."""
    begun, first = "", block.line
    for number, line in enumerate(block.text.splitlines(), block.line):
        first = first if begun else number
        begun += line.strip().removesuffix("\\")
        if line.rstrip().endswith("\\"):
            continue
        if shlex.split(begun, comments=True):
            yield Command(block.page, first, begun)
        begun = ""


def shell_commands(page: Path) -> list[Command]:
    return [command for block in blocks(page) if block.language in ("bash", "console") for command in commands(block)]


def not_run() -> dict[str, str]:
    """Return the reason why a command is not run, by the words with which it begins."""
    table = tomllib.loads((Path(__file__).parent / "not_run.toml").read_text(encoding="utf-8"))
    return {begins: str(reason) for begins, reason in table.items()}


def reason_not_to_run(command: Command, reasons: dict[str, str]) -> str | None:
    return next((begins for begins in reasons if f"{command.text} ".startswith(f"{begins} ")), None)
