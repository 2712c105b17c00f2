"""What the pages tell people to type."""

from __future__ import annotations

import re

from tests.docs.pages import PAGES, ROOT, Block, commands, not_run, reason_not_to_run, shell_commands


def test_what_is_not_run_is_still_in_a_page() -> None:
    reasons = not_run()
    used = {reason_not_to_run(command, reasons) for page in PAGES for command in shell_commands(page)}
    assert used >= reasons.keys()


def test_make_targets_exist() -> None:
    named = {command.words[1] for page in PAGES for command in shell_commands(page) if command.words[0] == "make"}
    targets = set(re.findall(r"^([.a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert named <= targets


def test_a_command_may_go_on_over_lines_and_have_a_comment() -> None:
    block = Block(ROOT / "README.md", 7, "bash", "# first\nhubdpo push run \\\n  USER/x    # then\n\nhf version\n")
    assert [(c.line, c.words) for c in commands(block)] == [
        (8, ["hubdpo", "push", "run", "USER/x"]),
        (11, ["hf", "version"]),
    ]
