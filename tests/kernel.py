"""Run notebooks in a real kernel. Tests skip without the packages of the extra `notebook`, but not in CI."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

LIMIT = 300
"""Seconds for a cell."""


def notebook(*cells: str) -> Any:
    """Return a notebook of these code cells."""
    nbformat = _packages("nbformat")
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])


def read(path: Path) -> Any:
    """Return the notebook in a file, which is valid."""
    nbformat = _packages("nbformat")
    found = nbformat.read(path, as_version=4)
    nbformat.validate(found)
    return found


def executed(notebook: Any, folder: Path, *, may_fail: bool = False) -> list[list[Any]]:
    """Run all cells in a folder, and return the outputs of each code cell as a reader sees them at the end."""
    client = _packages("nbclient").NotebookClient(
        notebook, timeout=LIMIT, kernel_name="python3", resources={"metadata": {"path": str(folder)}},
        coalesce_streams=True, allow_errors=may_fail,
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IPYTHONDIR", str(folder / "ipython"))  # so that nothing is left in the home folder
        client.execute()
    return [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]


def text(output: Any) -> str:
    """Return an output as plain text."""
    return str(output.text if output.output_type == "stream" else output.data["text/plain"])


def _packages(name: str) -> Any:
    if find_spec("ipykernel") is None and not os.environ.get("CI"):
        pytest.skip("no Jupyter on this machine: pip install '.[notebook]'")
    return pytest.importorskip(name)
