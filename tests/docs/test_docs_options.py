"""The commands and options that pages name exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from tests.docs.pages import PAGES, ROOT, shell_commands
from tests.reference import commands


def options(name: str) -> set[str]:
    return {
        flag for parameter in commands.COMMANDS[name].params for flag in (*parameter.opts, *parameter.secondary_opts)
    }


OPTIONS = {option for name in commands.names() for option in options(name)} | {"--version", "--help"}
OF_OTHERS = {
    "--config_file", "--deepspeed_config_file", "--enforce-eager", "--local-dir", "--max-model-len", "--max-num-seqs",
    "--num_processes", "--use_deepspeed",
}  # fmt: skip
"""Options of accelerate, `hf` and vLLM that pages name."""


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_commands_and_options_that_a_page_types_exist(page: Path) -> None:
    for command in shell_commands(page):
        words = command.words
        if words[0] == "hubdpo" and len(words) > 1 and not words[1].startswith("-"):
            assert words[1] in commands.names(), command.place
            flags = {word.partition("=")[0].replace("_", "-") for word in words if word.startswith("--")}
            assert flags <= options(words[1]) | {"--help"}, command.place


def mentioned(page: Path) -> set[str]:
    """Return the options in the code of a page's sentences and tables."""
    inline = [child.content for token in MarkdownIt().enable("table").parse(page.read_text(encoding="utf-8"))
              for child in token.children or () if child.type == "code_inline"]  # fmt: skip
    return {flag for code in inline for flag in re.findall(r"(?<![\w-])--[a-z][a-z0-9_-]+", code)}


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_options_that_a_page_mentions_exist(page: Path) -> None:
    assert mentioned(page) - OPTIONS <= OF_OTHERS


def test_each_option_of_other_programs_is_mentioned() -> None:
    assert {flag for page in PAGES for flag in mentioned(page)} - OPTIONS == OF_OTHERS
