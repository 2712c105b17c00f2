"""Every command and Python block of README and docs does what a reader expects: it ends well."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.hubs import Hubs
from tests.docs.pages import PAGES, ROOT, Block, blocks, commands, not_run, reason_not_to_run, shell_commands
from tests.docs.run import Page

RUN = [page for page in PAGES if any(block.language in ("bash", "console", "python", "yaml") for block in blocks(page))]


@pytest.fixture(scope="module")
def props(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that keeps what the commands find, made by the first page."""
    return tmp_path_factory.mktemp("docs") / "props"


@pytest.mark.slow
@pytest.mark.parametrize("page", RUN, ids=[str(page.relative_to(ROOT)) for page in RUN])
def test_all_of_a_page_runs(page: Path, props: Path) -> None:
    command = [sys.executable, "-m", "tests.docs", "--props", str(props), str(page)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


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


class Recorded(Hubs):
    """Hubs that nobody asks."""

    def __init__(self) -> None:
        self.turns: list[str] = []

    def public(self) -> None:
        self.turns.append("public")

    def own(self) -> None:
        self.turns.append("own")


def test_a_page_with_a_hub_of_its_own_reads_nothing_of_the_public_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page, hubs = tmp_path / "page.md", Recorded()
    page.write_text("```bash\nexport HF_ENDPOINT=http://127.0.0.1:8800\nls\nhf auth login\n```\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert not Page(tmp_path, tmp_path, hubs).run(page)
    assert hubs.turns == ["public", "own", "public"]
