"""Untrusted text in a card: inside a fence that it cannot close, with nothing invisible in it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

_TICKS = re.compile("`+")
_UNSEEN = ("Cc", "Cf", "Co", "Cs", "Zl", "Zp")
_KEPT = "\n\t"
_NEVER_FIRST = "，。、；：？！）」』》”’"
"""Marks that no line of Chinese or Japanese begins with."""


def visible(text: str) -> str:
    """Show control, bidi, zero-width and private-use characters as \\uXXXX; line breaks and tabs stay."""
    return "".join(
        f"\\u{ord(char):04x}" if char not in _KEPT and unicodedata.category(char) in _UNSEEN else char
        for char in text.replace("\r\n", "\n")
    )


def fence(text: str, language: str = "text") -> str:
    """Return a Markdown code block whose fence is longer than any run of backticks in the text."""
    shown = visible(text)
    longest = max((len(run) for run in _TICKS.findall(shown)), default=0)
    ticks = "`" * max(3, longest + 1)
    return f"{ticks}{language}\n{shown}\n{ticks}"


def wrapped(text: str, columns: int = 100) -> str:
    """Break long lines, at a space where that leaves no short line; a wide character takes two columns."""
    return "\n".join(line for long in text.split("\n") for line in _broken(long, columns))


def _broken(line: str, columns: int) -> Iterator[str]:
    start = width = 0
    space = -1
    for place, char in enumerate(line):
        width += 2 if unicodedata.east_asian_width(char) in "WF" else 1
        if char == " ":
            space = place
        if width > columns:
            stop = space + 1 if space > start + columns // 3 else place
            while start + 1 < stop < len(line) and line[stop] in _NEVER_FIRST:
                stop -= 1
            yield line[start:stop].rstrip()
            start, space = stop, -1
            width = sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in line[start : place + 1])
    if start < len(line) or not line:
        yield line[start:]


def shortened(text: str, most: int) -> str:
    """Return at most `most` characters of a text, with a mark where the rest is left out."""
    return text if len(text) <= most else f"{text[:most].rstrip()} […]"


def one_line(text: str) -> str:
    """Return a text for a title or a cell of a table: one line, without what Markdown or HTML would read."""
    return " ".join(re.sub(r"[`<>\[\]|]", " ", visible(text)).split())
