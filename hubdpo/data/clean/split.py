"""Train or test, by a hash of the prompt: a prompt is never in both, and rows do not move when data is added."""

from __future__ import annotations

import unicodedata
from typing import Any

import numpy as np

_BETWEEN = b"\xff"
"""A byte that no UTF-8 holds."""
_AT_ONCE = 1 << 15


def fold(texts: list[str], utf8: list[bytes]) -> list[bytes]:
    """Return UTF-8 that is equal for texts that differ in spacing, the case of A to Z, or Unicode form alone.

    `utf8` are the texts encoded, which most of them need no more than.
    """
    if not all(map(str.isascii, texts)):
        utf8 = [
            one if text.isascii() or (normal := unicodedata.normalize("NFKC", text)) is text else normal.encode()
            for text, one in zip(texts, utf8, strict=True)
        ]
    return _without_spaces(_BETWEEN.join(utf8).lower()).split(_BETWEEN) if utf8 else []


def _without_spaces(text: bytes) -> bytes:
    """Leave out spaces and control characters: in half the time of bytes.translate, which a space takes by surprise."""
    parts = (np.frombuffer(text[at : at + _AT_ONCE], np.uint8) for at in range(0, len(text), _AT_ONCE))
    return b"".join([part.take(np.flatnonzero(part > ord(" "))).tobytes() for part in parts])


def is_test(keys: Any, test_size: float, seed: int) -> Any:
    """Tell which prompts of these keys (uint64) are held out; their share tends to `test_size`."""
    drawn = mixed(np.asarray(keys, np.uint64) + np.uint64((seed * 0x9E3779B97F4A7C15) % 2**64))
    return (drawn >> np.uint64(11)).astype(np.float64) < test_size * 2**53


def mixed(values: Any) -> Any:
    """Return uint64 whose bits depend on all bits of a value: the finaliser of SplitMix64 (Steele, Lea, Flood 2014)."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        values = (values ^ (values >> np.uint64(shift))) * np.uint64(factor)
    return values ^ (values >> np.uint64(31))
