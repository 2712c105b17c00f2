"""Mark the words in which two texts differ."""

from __future__ import annotations

import re
from collections import Counter
from difflib import SequenceMatcher
from itertools import pairwise
from typing import NamedTuple

WORD = re.compile(
    r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+|\s+|.", re.DOTALL
)
"""A word, one character of a script without spaces, white space, or a mark of punctuation."""
MOST_COMPARISONS = 1_500_000
"""Product of the two numbers of words above which nothing is marked: half a second of comparing."""
LEAST_SHARED = 0.4
"""Share of words in common below which nothing is marked: nearly every word would be."""


class Piece(NamedTuple):
    text: str
    differs: bool = False
    found: bool = False


def marked(first: str, second: str) -> tuple[list[Piece], list[Piece]]:
    """Cut both texts into pieces that the other has at the same place, and pieces that it has not.

    Texts that have little in common, or are too long to compare while somebody waits, are one piece each.
    """
    one, other = WORD.findall(first), WORD.findall(second)
    start = _shared_start(one, other)
    end = _shared_start(one[start:][::-1], other[start:][::-1])
    a, b = one[start : len(one) - end], other[start : len(other) - end]
    if not _is_worth_it(a, b, shared=start + end):
        return [Piece(first, False)], [Piece(second, False)]
    head, tail = "".join(one[:start]), "".join(one[len(one) - end :])
    sides: tuple[list[Piece], list[Piece]] = ([Piece(head, False)], [Piece(head, False)])
    for kind, a0, a1, b0, b1 in SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        for side, words in zip(sides, (a[a0:a1], b[b0:b1]), strict=True):
            side.append(Piece("".join(words), kind != "equal"))
    for side in sides:
        side.append(Piece(tail, False))
    return _joined(sides[0]), _joined(sides[1])


def _shared_start(one: list[str], other: list[str]) -> int:
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _is_worth_it(a: list[str], b: list[str], *, shared: int) -> bool:
    if len(a) * len(b) > MOST_COMPARISONS:
        return False
    words = [[word for word in side if word[0].isalnum()] for side in (a, b)]
    common = (Counter(words[0]) & Counter(words[1])).total() + shared
    return common > 0 and common >= LEAST_SHARED * (min(map(len, words)) + shared)


def _joined(pieces: list[Piece]) -> list[Piece]:
    """Leave out empty pieces, and join neighbours of one kind; white space between two that differ joins them."""
    joined: list[Piece] = []
    for piece in (piece for piece in pieces if piece.text):
        if joined and (joined[-1].differs == piece.differs):
            joined[-1] = Piece(joined[-1].text + piece.text, piece.differs)
        elif len(joined) > 1 and piece.differs and joined[-1].text.isspace() and joined[-2].differs:
            joined[-2:] = [Piece(joined[-2].text + joined[-1].text + piece.text, True)]
        else:
            joined.append(piece)
    return joined


def with_found(pieces: list[Piece], text: str) -> list[Piece]:
    """Cut the pieces further, so that each place of a text, in any case, is a piece of its own."""
    whole = "".join(piece.text for piece in pieces)
    spans = [match.span() for match in re.finditer(re.escape(text), whole, re.IGNORECASE)] if text else []
    cuts = sorted({edge for span in spans for edge in span})
    cut: list[Piece] = []
    start = 0
    for piece in pieces:
        stop = start + len(piece.text)
        edges = [start, *(edge for edge in cuts if start < edge < stop), stop]
        for left, right in pairwise(edges) if piece.text else ():
            found = any(begin <= left and right <= end for begin, end in spans)
            cut.append(Piece(whole[left:right], piece.differs, found))
        start = stop
    return cut
