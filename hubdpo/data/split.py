"""Train or test, by a hash of the prompt: a prompt is never in both, and rows do not move when data is added."""

from __future__ import annotations

import unicodedata
from typing import Any

import numpy as np

_LOWER = bytes(range(256)).lower()
_SPACE = b" \t\n\r\v\f"


def fold(text: bytes) -> bytes:
    """Return UTF-8 that is equal for texts that differ in spacing, the case of A to Z, or Unicode form alone."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text.decode()).encode()
    return text.translate(_LOWER, _SPACE)


def is_test(keys: Any, test_size: float, seed: int) -> Any:
    """Tell which prompts of these keys (uint64) are held out; their share tends to `test_size`.

    The keys are mixed with the seed by the finaliser of SplitMix64 (Steele, Lea, Flood 2014).
    """
    mixed = np.asarray(keys, np.uint64) + np.uint64((seed * 0x9E3779B97F4A7C15) % 2**64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    mixed ^= mixed >> np.uint64(31)
    return (mixed >> np.uint64(11)).astype(np.float64) < test_size * 2**53
