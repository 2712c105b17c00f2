"""What the files of an adapter tell without loading it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hubdpo.bounded import read_object
from hubdpo.errors import ArtefactError
from hubdpo.hub.safetensors_header import read_header


def read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Return the shape of each tensor from the header of a safetensors file. Raise ArtefactError when it has none."""
    try:
        return read_header(path)
    except (OSError, ValueError) as problem:
        raise ArtefactError(
            f"`{path.name}` is no safetensors file: {problem}", hint="run `hubdpo train` again"
        ) from None


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object. Raise ArtefactError, naming the file, when it is none."""
    try:
        return read_object(path)
    except OSError as problem:
        raise ArtefactError(f"`{path.name}` cannot be read: {problem}", hint="fetch or make the folder again") from None


def count_tokens(tokenizer: dict[str, Any]) -> int | None:
    """Return the number of ids of a tokenizer.json, added ones included; None when its kind is not known."""
    vocabulary = (tokenizer.get("model") or {}).get("vocab")
    if isinstance(vocabulary, dict):
        highest = max(vocabulary.values(), default=-1)
    elif isinstance(vocabulary, list):
        highest = len(vocabulary) - 1
    else:
        return None
    return 1 + max([int(highest), *(int(token["id"]) for token in tokenizer.get("added_tokens") or [])])
