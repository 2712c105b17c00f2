"""What the files of an adapter tell without loading it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hubdpo.artefacts.formats.bounded import read_object
from hubdpo.errors import ArtefactError


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object. Raise ArtefactError, naming the file, when it is none."""
    try:
        return read_object(path)
    except OSError as problem:
        raise ArtefactError(f"`{path.name}` cannot be read: {problem}", hint="fetch or make the folder again") from None


def count_tokens(tokenizer: dict[str, Any]) -> int | None:
    """Return the number of ids of a tokenizer.json, added ones included; None when its kind is not known."""
    model, added = tokenizer.get("model"), tokenizer.get("added_tokens")
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    if not isinstance(vocabulary, dict | list):
        return None
    ids = list(vocabulary.values()) if isinstance(vocabulary, dict) else [len(vocabulary) - 1]
    ids += [token.get("id") for token in (added if isinstance(added, list) else []) if isinstance(token, dict)]
    return 1 + max((one for one in ids if isinstance(one, int)), default=-1)
