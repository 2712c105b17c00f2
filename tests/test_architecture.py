"""The house rules that imports and the tree must keep."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "hubdpo"
FLOORS = {
    "errors": 0, "endings": 0, "console": 0, "secrets": 0, "machine": 0, "orphans": 0,
    "bounded": 1, "file_entries": 1, "funnel": 1, "manifest": 1, "config": 1, "paths": 1, "front_matter": 1,
    "ranking": 1, "sections": 1,
    "data": 2, "cards": 2, "hub": 2, "loopback": 2,
    "training": 3,
    "evaluation": 4,
    "cli": 5, "demo": 5,
}  # fmt: skip
MODULES = sorted(PACKAGE.rglob("*.py"))


def imports(path: Path) -> set[str]:
    """The parts of hubdpo that a module imports: the first name after `hubdpo.`."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module + "." + alias.name for alias in node.names]
        else:
            continue
        found |= {name.split(".")[1] for name in names if name.startswith("hubdpo.")}
    return found & FLOORS.keys()


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down(path: Path) -> None:
    own = part_of(path)
    if own in ("__init__", "__main__"):
        return
    above = {name for name in imports(path) if name != own and FLOORS[name] > FLOORS[own]}
    assert not above


@pytest.mark.parametrize("path", [p for p in MODULES if part_of(p) == "loopback"], ids=lambda path: path.name)
def test_the_loopback_hub_shares_no_code_with_its_clients(path: Path) -> None:
    assert imports(path) <= {"errors", "console", "loopback"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_stay_short(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 350


def test_nothing_imports_the_command_line() -> None:
    assert not [path for path in MODULES if part_of(path) not in ("cli", "__main__") and "cli" in imports(path)]


def test_help_leaves_the_heavy_libraries_alone() -> None:
    code = (
        "import sys; from hubdpo.cli.app import app\n"
        "try: app(['--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'torch', 'transformers', 'datasets', 'trl', 'peft', 'huggingface_hub'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    "words",
    [
        ["-W", "error", "-c", "import hubdpo"],
        ["-c", "import hubdpo; [getattr(hubdpo, name) for name in hubdpo.__all__]"],
    ],
    ids=["the package, warnings being errors", "all that it offers"],
)
def test_imports_say_nothing(words: list[str]) -> None:
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
