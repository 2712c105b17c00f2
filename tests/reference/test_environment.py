"""The page of environment variables names each one that the package reads."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import hubdpo
from tests.reference.pages import REFERENCE

PACKAGE = Path(hubdpo.__file__).parent
PAGE = (REFERENCE / "environment.md").read_text(encoding="utf-8")
NAMES = set(re.findall(r"`([A-Z][A-Z0-9_]+)`", PAGE))
THROUGH_A_LIBRARY = "## Read by the libraries below"


def read_in_package() -> set[str]:
    """Return the names in `os.environ.get(NAME)`, `os.environ[NAME]` and `NAME in os.environ`; `*` for what varies."""
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in PACKAGE.rglob("*.py")]
    constants = {name: value for tree in trees for name, value in _constants(tree)}
    return {
        name for tree in trees for key in _keys(tree) for name in _names(key, {**constants, **dict(_constants(tree))})
    }


def _constants(tree: ast.Module) -> Iterator[tuple[str, str]]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
            yield from ((t.id, str(node.value.value)) for t in node.targets if isinstance(t, ast.Name))


def _keys(tree: ast.AST) -> Iterator[ast.expr]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "os.environ.get":
            yield node.args[0]
        elif isinstance(node, ast.Subscript) and ast.unparse(node.value) == "os.environ":
            yield node.slice
        elif isinstance(node, ast.Compare) and ast.unparse(node.comparators[0]) == "os.environ":
            yield node.left


def _names(key: ast.expr, constants: dict[str, str]) -> Iterator[str]:
    if isinstance(key, ast.Constant):
        yield str(key.value)
    elif isinstance(key, ast.Name) and key.id in constants:
        yield constants[key.id]
    elif isinstance(key, ast.JoinedStr):
        yield f"{key.values[0].value}*" if isinstance(key.values[0], ast.Constant) else "*"


def test_each_variable_that_the_package_reads_is_on_the_page() -> None:
    read = {name for name in read_in_package() if "*" not in name}
    assert "HUBDPO_CACHE" in read
    assert read - NAMES == set()


def test_variables_whose_names_vary_are_those_of_accelerate() -> None:
    varying = {name for name in read_in_package() if "*" in name}
    assert all(name.startswith("ACCELERATE_") for name in varying)


def test_each_variable_on_the_page_that_hubdpo_reads_is_in_the_package() -> None:
    source = "".join(path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py"))
    own = re.findall(r"`([A-Z][A-Z0-9_]+)`", PAGE.partition(THROUGH_A_LIBRARY)[0])
    assert [name for name in own if name not in source and not name.startswith("ACCELERATE_")] == []
