"""Guess what the values of a vote or label mean, for a hint that a person checks before it is used."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from hubdpo.config.description import OPEN
from hubdpo.config.name_values import write_pairs
from hubdpo.data.converters.formats import unpaired
from hubdpo.data.converters.vote_words import Sides, differing_words, digits_of, is_tie, is_whole_number
from hubdpo.data.detection.names import AGAINST
from hubdpo.data.pairs.messages import words_of

MOST_VALUES = 8
LONGEST = 40
FIRST, SECOND = frozenset(("a", "first", "left", "1")), frozenset(("b", "second", "right", "2"))
GOOD = frozenset(("1", "true", "yes", "y", "up", "positive", "pass", "win", "+", "right", "ok"))
BAD = frozenset(("0", "-1", "false", "no", "n", "down", "negative", "fail", "lose", "-", "wrong"))
"""Values that may well call an answer good or bad, which a person must confirm."""
_TOKEN = re.compile(r"[A-Za-z]+|\d+")


class Guess:
    """What the values of a vote seem to mean, or those of a label if `sides` is None.

    `first` and `second` are the values for each side, or for a good and a bad answer. Both are empty if any value is
    unclear: it could turn the others round.
    """

    def __init__(self, values: Sequence[str], column: str = "", sides: Sides | None = None) -> None:
        self.values, self.sides = values, sides
        self.ties = [value for value in values if is_tie(value.strip().lower())]
        meanings = {
            value: _side(value, values, column, sides) if sides else _quality(value, values)
            for value in values
            if value not in self.ties
        }
        self.first, self.second = ([value for value in meanings if meanings[value] == wanted] for wanted in (1, -1))
        if not self.first or not self.second or len(meanings) > MOST_VALUES or 0 in meanings.values():
            self.first, self.second = [], []

    @property
    def labels(self) -> str:
        """The option `--labels` for these values.

        Unclear values stay open, so that the option cannot be pasted: the wrong way round, it would invert every pair.
        """
        names = ("first", "second") if self.sides else ("good", "bad")
        found = zip((*names, "tie"), (self.first or [OPEN], self.second or [OPEN], self.ties), strict=True)
        return f"--labels {shlex.quote(write_pairs((name, value) for name, some in found for value in some))}"

    @property
    def question(self) -> str:
        """What a person must look up before `labels` can be used, or an empty text."""
        unclear = quoted([value for value in self.values if value not in self.ties][:MOST_VALUES])
        if self.sides is not None:
            return "" if self.first else f"look up which of {unclear} means that `{self.sides[0]}` is better:"
        if not self.first:
            return f"look up which of {unclear} means a good answer:"
        if all(unpaired.says_good(value) is not None for value in (*self.first, *self.second)):
            return ""
        good, bad = (" or ".join(f"`{value}`" for value in some) for some in (self.first, self.second))
        return f"look it up: if {good} means a good answer, and {bad} a bad one,"


def quoted(values: Sequence[str]) -> str:
    return ", ".join(f"`{value[:LONGEST]}`" for value in values)


def _quality(value: str, values: Sequence[str]) -> int:
    """Return 1 or -1 if a value may well mean a good or a bad answer, else 0. Beside -1, 0 may mean neither."""
    if value == "0" and "-1" in values:
        return 0
    if (good := unpaired.says_good(value)) is not None:
        return 1 if good else -1
    return (value.lower() in GOOD) - (value.lower() in BAD)


def _side(value: str, values: Sequence[str], column: str, sides: Sides) -> int:
    """Return 1 or -1 if a value names the first or second side in any words, else 0."""
    own = differing_words(*sides) or ("", "")
    if value in ("true", "false"):
        side = _side_in(words_of(column), own)
        return side if value == "true" else -side
    if is_whole_number(value):
        first, second = digits_of(sides) or ("1", "2")
        numbers = {other for other in values if is_whole_number(other)}
        return (value == first) - (value == second) if numbers == {first, second} else 0
    tokens = _TOKEN.findall(value)  # among them the article `a`, which names no side unless it is the last
    return _side_in([word.lower() for i, word in enumerate(tokens) if word != "a" or i == len(tokens) - 1], own)


def _side_in(words: Sequence[str], own: Sides) -> int:
    """Return 1 or -1 if words name the first or the second side and not both, and nothing like `worse`, else 0."""
    if not AGAINST.isdisjoint(words):
        return 0
    first = {*FIRST, own[0]} - {own[1]}
    second = {*SECOND, own[1]} - {own[0]}
    if len(words) == 1 and own == ("left", "right"):
        first, second = first | {"l"}, second | {"r"}
    return (not first.isdisjoint(words)) - (not second.isdisjoint(words))
