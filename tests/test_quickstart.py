"""The notebook of examples/ runs as it stands, on a CPU, in a folder where nothing is."""

from __future__ import annotations

import ast
import builtins
import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests import kernel

FILE = Path(__file__).parents[1] / "examples" / "quickstart.ipynb"
NOTEBOOK: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))


def sources(kind: str) -> list[str]:
    return ["".join(cell["source"]) for cell in NOTEBOOK["cells"] if cell["cell_type"] == kind]


def test_it_is_kept_without_outputs() -> None:
    assert NOTEBOOK["metadata"]["kernelspec"]["name"] == "python3"
    assert {*NOTEBOOK["metadata"]} == {"kernelspec", "language_info"}
    code = [cell for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] or cell["execution_count"] or cell["metadata"] for cell in code)


def names(code: str, context: type[ast.expr_context]) -> set[str]:
    """Return the names that code reads (`ast.Load`), or sets and imports (`ast.Store`)."""
    tree = list(ast.walk(ast.parse(code)))
    found = {node.id for node in tree if isinstance(node, ast.Name) and isinstance(node.ctx, context)}
    if context is ast.Store:
        imports = [node for node in tree if isinstance(node, ast.Import | ast.ImportFrom)]
        found |= {(each.asname or each.name).partition(".")[0] for node in imports for each in node.names}
    return found


def test_the_settings_for_a_gpu_are_all_that_the_other_cells_need() -> None:
    on_cpu, *others = sources("code")
    (on_gpu,) = re.findall(r"```python\n(.*?)```", sources("markdown")[0], re.DOTALL)
    rest = "\n".join(others)
    needed = names(rest, ast.Load) - names(rest, ast.Store) - {*dir(builtins)}
    assert needed == names(on_gpu, ast.Store)
    assert needed <= names(on_cpu, ast.Store)


def test_its_links_lead_somewhere() -> None:
    links = [link for text in sources("markdown") for link in re.findall(r"\]\(([^)]+)\)", text)]
    assert links
    assert all((FILE.parent / link).is_file() for link in links)


@pytest.mark.slow
def test_it_runs(tmp_path: Path) -> None:
    outputs = kernel.executed(kernel.read(FILE), tmp_path)
    shown = [[each.get("data", {}) for each in cell] for cell in outputs]
    assert any("image/png" in each for cell in shown for each in cell)
    scores = [ast.literal_eval(cell[-1]["text/plain"]) for cell in shown if "'base': " in str(cell[-1:])]
    assert [each["base"] < each["adapter"] for each in scores] == [True]
    assert ast.literal_eval(shown[-1][-1]["text/plain"])  # the answer of what was loaded
    assert [path.name.partition("-")[0] for path in tmp_path.iterdir() if path.name != "ipython"] == ["quickstart"]
