"""Write Markdown that a code host and Sphinx show alike."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_CODE = re.compile(r"(`[^`]*`)")
_OPTION = re.compile(r"(?<![\w/-])--?[a-z][a-z0-9_-]*[a-z0-9]")
_UPPER = re.compile(r"([*<>])")


def prose(text: str) -> str:
    """Return a description as Markdown: options as code, so that no typography joins their dashes."""
    parts = _CODE.split(" ".join(text.split()))
    return "".join(
        part if part.startswith("`") else _OPTION.sub(r"`\g<0>`", _UPPER.sub(r"\\\1", part)) for part in parts
    )


def code(text: object) -> str:
    """Return a value as code; nothing for no value."""
    return f"`{text}`" if str(text) else ""


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; a column without any value is left out."""
    found = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    kept = [column for column in range(len(heads)) if any(row[column] for row in found)]
    lines = [[heads[column] for column in kept], ["---"] * len(kept), *([row[c] for c in kept] for row in found)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
