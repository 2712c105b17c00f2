"""The house rules that imports and the tree must keep."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "hubdpo"
FLOORS = (
    "version", "secrets", "errors", "layout", "console", "machine", "config", "artefacts", "loopback", "hub", "cards",
    "model", "data", "adoption", "evaluation", "training", "release", "view", "demo", "cli",
)  # fmt: skip
"""The rooms from the ground up: a module imports from lower ones alone, and no two are on the same floor."""
DRAWERS = {
    "artefacts": ("formats", "manifests", "folders"),
    "model": (
        "device",
        "memory",
        "log_probs",
        "quiet",
        "untrusted",
        "tokenizer",
        "generation",
        "sampling",
        "bases",
        "probes",
        "adapters",
        "merge",
        "export",
    ),
    "data": ("pairs", "language", "converters", "raw", "detection", "tokens", "clean", "prepare", "load", "encoded"),
    "training": (
        "schedule",
        "sharding",
        "pair_values",
        "step",
        "families",
        "preflight",
        "run",
        "launch",
        "common",
        "train",
        "start",
        "sweep",
    ),
}
"""The order within a room, where it has one."""
MODULES = sorted(PACKAGE.rglob("*.py"))


def imports(path: Path) -> set[tuple[str, ...]]:
    """The modules and names that a module imports from hubdpo, each as the parts of its dotted name after `hubdpo`."""
    found: set[tuple[str, ...]] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module + "." + alias.name for alias in node.names]
        else:
            continue
        found |= {tuple(name.split(".")[1:]) for name in names if name.partition(".")[0] == "hubdpo"}
    return found


def rooms(path: Path) -> set[str]:
    return {name[0] for name in imports(path) if name}


def parts_of(path: Path) -> tuple[str, ...]:
    return path.relative_to(PACKAGE).with_suffix("").parts


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down(path: Path) -> None:
    own = parts_of(path)
    if own in (("__init__",), ("__main__",)):
        return
    floor = FLOORS.index(own[0])
    assert not {name for name in imports(path) if not name or name[0] not in FLOORS}, "the package's face is for users"
    assert not {name for name in imports(path) if name[0] != own[0] and FLOORS.index(name[0]) >= floor}
    drawers = DRAWERS.get(own[0], ())
    if len(own) > 1 and own[1] in drawers:
        inside = {name[1] for name in imports(path) if name[0] == own[0] and name[1] in drawers and name[1] != own[1]}
        assert not {drawer for drawer in inside if drawers.index(drawer) >= drawers.index(own[1])}


def test_every_room_has_its_floor() -> None:
    assert {parts_of(path)[0] for path in MODULES} - {"__init__", "__main__"} == set(FLOORS)
    for room, drawers in DRAWERS.items():
        assert {parts_of(path)[1] for path in MODULES if parts_of(path)[0] == room} - {"__init__"} == set(drawers)


@pytest.mark.parametrize("path", [p for p in MODULES if parts_of(p)[0] == "loopback"], ids=lambda path: path.name)
def test_the_loopback_hub_shares_no_code_with_its_clients(path: Path) -> None:
    assert rooms(path) <= {"errors", "console", "loopback"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_stay_short(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 350


def test_a_regular_expression_has_one_place() -> None:
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in MODULES if parts_of(path)[0] != "loopback"]
    calls = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Call)]
    counts = Counter(ast.unparse(call.args[0]) for call in calls if ast.unparse(call.func) == "re.compile")
    assert not [expression for expression, count in counts.items() if count > 1]


def test_nothing_imports_the_command_line() -> None:
    assert not [path for path in MODULES if parts_of(path)[0] not in ("cli", "__main__") and "cli" in rooms(path)]


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
