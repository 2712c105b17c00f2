"""What is decided about a row without its text: 64 bytes a pair, so that millions fit where their texts would not."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from hubdpo.data.preference import ROLES

KEY = np.dtype([
    ("low", "<u8"), ("high", "<u8"),  # of prompt and both answers, whichever was chosen
    ("prompt", "<u8"),  # of the prompt, spacing and case apart
    ("line", "<u4"), ("bytes", "<u4"), ("messages", "<u4"),
    ("prompt_characters", "<u4"), ("chosen_characters", "<u4"), ("rejected_characters", "<u4"),
    ("prompt_tokens", "<i4"), ("chosen_tokens", "<i4"), ("rejected_tokens", "<i4"),  # -1 without a tokenizer
    ("flipped", "<u1"), ("changes", "<u1"), ("score", "<f4"),
])  # fmt: skip
CODE = {role: bytes([number]) for number, role in enumerate(ROLES)}

Encoded = Sequence[tuple[str, bytes]]
"""Messages as (role, UTF-8)."""


def digest_of(messages: Encoded) -> bytes:
    """Return 16 bytes that are equal for equal messages (BLAKE2b)."""
    digest = hashlib.blake2b(digest_size=16)
    for role, text in messages:
        digest.update(CODE[role] + len(text).to_bytes(8, "little"))
        digest.update(text)
    return digest.digest()


def pair_key(prompt: bytes, chosen: bytes, rejected: bytes) -> tuple[int, int, bool]:
    """Return 128 bits that are the same for A over B as for B over A, and whether the answers stand the other way."""
    flipped = chosen > rejected
    first, second = (rejected, chosen) if flipped else (chosen, rejected)
    whole = hashlib.blake2b(prompt + first + second, digest_size=16).digest()
    return int.from_bytes(whole[:8], "little"), int.from_bytes(whole[8:], "little"), flipped


def as_array(rows: list[tuple[Any, ...]]) -> Any:
    return np.array(rows, KEY)
