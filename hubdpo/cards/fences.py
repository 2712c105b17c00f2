"""Make untrusted text safe in a card: fenced, in one line or as code, with invisible characters escaped."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping

_TICKS = re.compile("`+")
_UNSEEN = ("Cc", "Cf", "Co", "Cs", "Zl", "Zp")
_KEPT = "\n\t"
_NEVER_FIRST = "，。、；：？！）」』》”’"
"""Punctuation that does not start a line in Chinese or Japanese."""


def visible(text: str) -> str:
    """Escape control, bidi, zero-width and private-use characters as \\uXXXX, except line breaks and tabs."""
    return "".join(
        f"\\u{ord(char):04x}" if char not in _KEPT and unicodedata.category(char) in _UNSEEN else char
        for char in text.replace("\r\n", "\n")
    )


def fence(text: str, language: str = "text") -> str:
    """Return a code block whose fence is longer than any run of backticks in the text."""
    text = visible(text)
    longest = max((len(run) for run in _TICKS.findall(text)), default=0)
    ticks = "`" * max(3, longest + 1)
    return f"{ticks}{language}\n{text}\n{ticks}"


def wrapped(text: str, columns: int = 88) -> str:
    """Break long lines, at a space unless the line would be too short; a wide character takes two columns."""
    return "\n".join(line for long in text.split("\n") for line in _broken(long, columns))


def _broken(line: str, columns: int) -> Iterator[str]:
    start = width = 0
    space = -1
    for index, char in enumerate(line):
        width += 2 if unicodedata.east_asian_width(char) in "WF" else 1
        if char == " ":
            space = index
        if width > columns:
            stop = space + 1 if space > start + columns // 3 else index
            while start + 1 < stop < len(line) and line[stop] in _NEVER_FIRST:
                stop -= 1
            yield line[start:stop].rstrip()
            start, space = stop, -1
            width = sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in line[start : index + 1])
    if start < len(line) or not line:
        yield line[start:]


def one_line(text: str) -> str:
    """Return a text as one line for a title or a table cell, without Markdown or HTML syntax."""
    return " ".join(re.sub(r"[`<>\[\]|]", " ", visible(text)).split())


def code_names(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    """Return (name, count), the names without characters that would end inline code or a table cell."""
    return [(visible(name).replace("`", " ").replace("|", " ").strip() or "(no name)", n) for name, n in counts.items()]
