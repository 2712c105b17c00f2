"""Assign prompts to train or test by hash: no prompt is in both splits, and adding data moves no row."""

from __future__ import annotations

import unicodedata

import numpy as np
import numpy.typing as npt

_SEPARATOR = b"\xff"
"""A byte that UTF-8 never contains."""
_BLOCK = 1 << 15


def fold(texts: list[str], utf8: list[bytes]) -> list[bytes]:
    """Return bytes that are equal for texts that differ only in white space, ASCII case or Unicode form (NFKC).

    `utf8` holds the same texts encoded; for ASCII texts no encoding is repeated.
    """
    if not all(map(str.isascii, texts)):
        utf8 = [
            encoded
            if text.isascii() or (normal := unicodedata.normalize("NFKC", text)) is text
            else normal.encode()
            for text, encoded in zip(texts, utf8, strict=True)
        ]  # fmt: skip
    return _without_spaces(_SEPARATOR.join(utf8).lower()).split(_SEPARATOR) if utf8 else []


def _without_spaces(text: bytes) -> bytes:
    """Remove spaces and control characters, in half the time of `bytes.translate` (its branches mispredict)."""
    blocks = (np.frombuffer(text[start : start + _BLOCK], np.uint8) for start in range(0, len(text), _BLOCK))
    return b"".join([block.take(np.flatnonzero(block > ord(" "))).tobytes() for block in blocks])


def is_test(keys: npt.NDArray[np.uint64], test_size: float, seed: int) -> npt.NDArray[np.bool_]:
    """Return bool (rows,): whether the prompt with this hash is held out. The share tends to `test_size`."""
    draws = mix(np.asarray(keys, np.uint64) + np.uint64((seed * 0x9E3779B97F4A7C15) % 2**64))
    # the upper 53 bits: what a float64 holds exactly
    held_out: npt.NDArray[np.bool_] = (draws >> np.uint64(11)).astype(np.float64) < test_size * 2**53
    return held_out


def mix(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Scramble uint64 values with the finaliser of SplitMix64 (Steele, Lea and Flood 2014)."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        values = (values ^ (values >> np.uint64(shift))) * np.uint64(factor)
    return values ^ (values >> np.uint64(31))
