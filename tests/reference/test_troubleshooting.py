"""Each error that the page quotes is one that the code can print."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import hubdpo

PACKAGE = Path(hubdpo.__file__).parent
PAGE = PACKAGE.parent / "docs" / "troubleshooting.md"
QUOTED = re.findall(r"^### `error: (.+)`$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
LEAST_LETTERS = 7
"""Letters that a message has besides its values; shorter texts would fit any quotation."""


def messages() -> Iterator[re.Pattern[str]]:
    """Yield a pattern for each text of the package, in which a value may be anything."""
    for path in PACKAGE.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            parts = node.values if isinstance(node, ast.JoinedStr) else [node]
            constants = [str(part.value) for part in parts if isinstance(part, ast.Constant)]
            if len(re.findall(r"[^\W\d]", "".join(constants))) >= LEAST_LETTERS:
                texts = [str(part.value) if isinstance(part, ast.Constant) else None for part in parts]
                yield re.compile(
                    "".join(".*" if text is None else re.escape(_plain(text)) for text in texts), re.DOTALL
                )


def _plain(text: str) -> str:
    """Write `'` for the backquotes of a message, as the page does inside code."""
    return text.replace("`", "'")


def fits(quoted: str, patterns: list[re.Pattern[str]]) -> bool:
    """Tell whether a message may read so."""
    return any(pattern.fullmatch(quoted) for pattern in patterns)


def test_the_page_quotes_errors() -> None:
    assert len(QUOTED) >= 40
    assert len(set(QUOTED)) == len(QUOTED)


def test_each_quoted_error_is_in_the_code() -> None:
    patterns = [*messages()]
    assert [quoted for quoted in QUOTED if not fits(quoted, patterns)] == []


@pytest.mark.parametrize("gone", ["the device has no place for the base", "folder lost: data"])
def test_an_error_that_no_code_prints_is_found(gone: str) -> None:
    assert not fits(gone, [*messages()])
