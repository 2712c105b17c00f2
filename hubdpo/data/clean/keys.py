"""What is decided about a row without its text: some bytes a pair, so that millions fit where their texts would not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from xxhash import xxh3_64_intdigest, xxh3_128_digest

from hubdpo.data.clean.split import mixed
from hubdpo.data.pairs.message_column import MessagesColumn

KEY = np.dtype([
    ("low", "<u8"), ("high", "<u8"),  # of prompt and both answers, whichever was chosen
    ("prompt", "<u8"),  # of the prompt, spacing and case apart; of the answer in the first round of single answers
    ("line", "<u4"), ("bytes", "<u4"), ("messages", "<u4"),
    ("prompt_characters", "<u4"), ("chosen_characters", "<u4"), ("rejected_characters", "<u4"),
    ("prompt_tokens", "<i4"), ("chosen_tokens", "<i4"), ("rejected_tokens", "<i4"),  # -1 without a tokenizer
    ("flipped", "<u1"), ("changes", "<u1"), ("score", "<f4"),
])  # fmt: skip

_PLACES = 1024
_FACTORS = mixed(np.arange(1, _PLACES * 8 + 1, dtype=np.uint64)) | np.uint64(1)
"""What the hash of a message is multiplied with, by place and role: odd, so that none of its bits is lost."""
_FIRST, _SECOND = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xD1B54A32D192ED03)


def digests(column: MessagesColumn) -> Any:
    """Return uint64 (rows, 2) that is equal for rows of equal messages: their XXH3, added up by role and place."""
    joined = b"".join(list(map(xxh3_128_digest, column.utf8)))
    return _a_row(np.frombuffer(joined, "<u8").reshape(-1, 2), column)


def pair_digests(prompts: Any, chosen: Any, rejected: Any) -> tuple[Any, Any]:
    """Return uint64 (rows, 2) that is the same for A over B as for B over A, and bool (rows,): which way round."""
    flipped = (chosen[:, 0] > rejected[:, 0]) | ((chosen[:, 0] == rejected[:, 0]) & (chosen[:, 1] > rejected[:, 1]))
    side = flipped[:, None]
    first, second = np.where(side, rejected, chosen), np.where(side, chosen, rejected)
    return prompts + first * _FIRST + second * _SECOND, flipped


def folded_keys(column: MessagesColumn, fold: Callable[[list[str], list[bytes]], list[bytes]]) -> Any:
    """Return uint64 (rows,) of messages (XXH3) whose texts `fold` makes equal."""
    folded = fold(column.texts, column.utf8)
    return _a_row(np.fromiter(map(xxh3_64_intdigest, folded), np.uint64, len(folded))[:, None], column)[:, 0]


def _a_row(hashes: Any, column: MessagesColumn) -> Any:
    """Bring the hashes of messages, uint64 (messages, lanes), together to one for each row."""
    places = np.frombuffer(column.roles, np.uint8).astype(np.int64)
    if not column.single:
        within = np.arange(len(hashes)) - np.repeat(column.ends[:-1], column.counts)
        places += within % _PLACES * 8
    return column.a_row(hashes * _FACTORS[places][:, None])
