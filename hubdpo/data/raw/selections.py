"""Folders that early versions of `datasets` saved: the rows, and beside them the numbers of those that were selected.

Later versions write the selected rows alone, and no longer read the numbers; neither does hubdpo.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

from hubdpo.errors import DataError

STATE, INDICES = "state.json", "indices.arrow"


def refuse_selection(path: Path) -> None:
    """Raise DataError for an Arrow file whose folder selects some of its rows, or puts them in another order."""
    folder = path.parent
    found = _indices_of(folder)
    if found is None:
        return
    rows, numbers = (f"Dataset.from_file({str(folder / name)!r})" for name in ("dataset.arrow", found))
    new = f"{folder.resolve().name}-selected.parquet"
    raise DataError(
        f"the folder {folder.name} selects rows of its data by {found}, as early versions of `datasets` saved them; "
        "write the selected rows alone (`.flatten_indices()` where the dataset was made)",
        hint=f"python -c \"from datasets import Dataset; {rows}.select({numbers}['indices'][:]).to_parquet({new!r})\"",
    )


def _indices_of(folder: Path) -> str | None:
    """Return the name of the file with the numbers of the rows, or None."""
    if (folder / INDICES).exists():
        return INDICES
    try:
        state: Any = orjson.loads((folder / STATE).read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return None
    members = state.items() if isinstance(state, dict) else ()
    files = [files for key, files in members if "indices" in key and "files" in key and files]
    if not files:
        return None
    first = files[0][0] if isinstance(files[0], list) else files[0]
    name = first.get("filename") if isinstance(first, dict) else first
    return str(name) if isinstance(name, str) else INDICES
