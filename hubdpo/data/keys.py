"""What is decided about a row without its text: some bytes a pair, so that millions fit where their texts would not."""

from __future__ import annotations

from typing import Any

import numpy as np
from xxhash import xxh3_64_intdigest, xxh3_128_digest

from hubdpo.data.columns import MessagesColumn

KEY = np.dtype([
    ("low", "<u8"), ("high", "<u8"),  # of prompt and both answers, whichever was chosen
    ("prompt", "<u8"),  # of the prompt, spacing and case apart; of the answer in the first round of single answers
    ("line", "<u4"), ("bytes", "<u4"), ("messages", "<u4"),
    ("prompt_characters", "<u4"), ("chosen_characters", "<u4"), ("rejected_characters", "<u4"),
    ("prompt_tokens", "<i4"), ("chosen_tokens", "<i4"), ("rejected_tokens", "<i4"),  # -1 without a tokenizer
    ("flipped", "<u1"), ("changes", "<u1"), ("score", "<f4"),
])  # fmt: skip

SEVERAL = 1
"""Seed of the digest of several messages, so that none of them is taken for one long message."""


def digests(column: MessagesColumn) -> list[bytes]:
    """Return 16 bytes a row that are equal for equal messages (XXH3). No text holds the NUL that parts them."""
    if column.single:
        return [xxh3_128_digest(text) for text in column.utf8]
    return [
        xxh3_128_digest(texts[0]) if len(texts) == 1 else xxh3_128_digest(b"\0".join([roles, *texts]), SEVERAL)
        for roles, texts in column.rows()
    ]


def pair_digests(prompts: list[bytes], chosen: list[bytes], rejected: list[bytes]) -> tuple[Any, Any]:
    """Return uint64 (rows, 2) that is the same for A over B as for B over A, and bool (rows,): which way round."""
    rows = list(zip(prompts, chosen, rejected, strict=True))
    joined = b"".join([xxh3_128_digest(p + c + r if c <= r else p + r + c) for p, c, r in rows])
    flipped = np.array([c > r for _, c, r in rows], bool)
    return np.frombuffer(joined, np.uint64).reshape(-1, 2), flipped


def folded_keys(column: MessagesColumn, fold: Any) -> Any:
    """Return uint64 (rows,) of messages (XXH3) whose texts `fold` (bytes to bytes) makes equal."""
    if column.single:
        return np.array([xxh3_64_intdigest(fold(text)) for text in column.utf8], np.uint64)
    return np.array(
        [
            xxh3_64_intdigest(fold(texts[0]) if len(texts) == 1 else b"\0".join([roles, *map(fold, texts)]))
            for roles, texts in column.rows()
        ],
        np.uint64,
    )
