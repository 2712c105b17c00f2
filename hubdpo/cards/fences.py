"""Untrusted text in a card: inside a fence that it cannot close, with nothing invisible in it."""

from __future__ import annotations

import re
import unicodedata

_TICKS = re.compile("`+")
_UNSEEN = ("Cc", "Cf", "Co", "Cs", "Zl", "Zp")
_KEPT = "\n\t"


def visible(text: str) -> str:
    """Show control, bidi, zero-width and private-use characters as \\uXXXX; line breaks and tabs stay."""
    return "".join(
        f"\\u{ord(char):04x}" if char not in _KEPT and unicodedata.category(char) in _UNSEEN else char
        for char in text.replace("\r\n", "\n")
    )


def fence(text: str) -> str:
    """Return a Markdown code block whose fence is longer than any run of backticks in the text."""
    shown = visible(text)
    longest = max((len(run) for run in _TICKS.findall(shown)), default=0)
    ticks = "`" * max(3, longest + 1)
    return f"{ticks}text\n{shown}\n{ticks}"
