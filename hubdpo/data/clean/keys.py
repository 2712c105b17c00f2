"""Row keys: the fixed-size record (hashes, lengths, flags) that stands for a pair once its text is on disk.

Deduplication, splitting and statistics work on row keys alone, so millions of pairs fit in memory: a key takes 68 bytes
whatever the length of the pair.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
from xxhash import xxh3_64_intdigest, xxh3_128_digest

from hubdpo.artefacts.formats.messages import COLUMNS
from hubdpo.data.pairs.batch import KeptColumn, PairBatch
from hubdpo.data.pairs.extras import by_column, kinds_of, unpack
from hubdpo.data.pairs.message_column import MessageColumn

ROW_KEY = np.dtype([
    # 128-bit hash of prompt and answers, as two halves: equal for (prompt, A, B) and (prompt, B, A)
    ("low", "<u8"),
    ("high", "<u8"),
    # 64-bit hash of the prompt after `fold`; for single answers, hash of the answer as it is written
    ("prompt", "<u8"),
    # line number within the piece, from 1
    ("line", "<u4"),
    # UTF-8 bytes of prompt and both answers
    ("bytes", "<u4"),
    # number of messages in the prompt
    ("messages", "<u4"),
    # code points
    ("prompt_characters", "<u4"),
    ("chosen_characters", "<u4"),
    ("rejected_characters", "<u4"),
    # tokens as trained on, chat template included; -1 if no tokenizer counts
    ("prompt_tokens", "<i4"),
    ("chosen_tokens", "<i4"),
    ("rejected_tokens", "<i4"),
    # 1 if the chosen answer has the larger hash: two rows that differ in this alone contradict each other
    ("flipped", "<u1"),
    # bits of hubdpo.data.pairs.example.CHANGES
    ("changes", "<u1"),
    # split in which the row was published: 1 train, 2 test, 0 if nothing tells (hubdpo.data.raw.split_names.CODES)
    ("split", "<u1"),
    # bits of hubdpo.data.pairs.extras.KINDS
    ("extras", "<u1"),
    # score of a single answer, 0 for pairs
    ("score", "<f4"),
])  # fmt: skip
RowKeys = npt.NDArray[np.void]
"""Structured array of ROW_KEY, (rows,)."""
Hashes = npt.NDArray[np.uint64]


def mix(values: Hashes) -> Hashes:
    """Scramble uint64 values with the finaliser of SplitMix64 (Steele, Lea and Flood 2014)."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        values = (values ^ (values >> np.uint64(shift))) * np.uint64(factor)
    return values ^ (values >> np.uint64(31))


def draws(keys: Hashes, seed: int, purpose: int = 0) -> Hashes:
    """Return a random number for each hash, uint64 (rows,): always the same, and others for another seed or purpose."""
    salt = (seed * 0x9E3779B97F4A7C15 + purpose * 0xD1B54A32D192ED03) % 2**64
    return mix(np.asarray(keys, np.uint64) + np.uint64(salt))


def uniform(keys: Hashes, seed: int, purpose: int = 0) -> npt.NDArray[np.float64]:
    """Return `draws` as numbers from 0 to 1, float64 (rows,)."""
    # the upper 53 bits: what a float64 holds exactly
    return (draws(keys, seed, purpose) >> np.uint64(11)).astype(np.float64) / 2**53


_POSITIONS = 1024
_FACTORS = mix(np.arange(1, _POSITIONS * 8 + 1, dtype=np.uint64)) | np.uint64(1)
"""Multiplier of a message's hash, at `position % _POSITIONS * 8 + role`: odd, which keeps every bit modulo 2**64."""
_FIRST, _SECOND = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xD1B54A32D192ED03)

Extras = Mapping[int, bytes]
"""Of the rows of a column that have more than text: what they have beside it, by row number."""
_SEPARATOR = b"\xff"
"""A byte that UTF-8 never contains."""
_BLOCK = 1 << 15


def digests(column: MessageColumn, extras: Extras) -> Hashes:
    """Hash the messages of each row to uint64 (rows, 2): the sum of their XXH3-128, weighted by position and role."""
    joined = b"".join(list(map(xxh3_128_digest, column.utf8)))
    hashes = _sum_by_row(np.frombuffer(joined, "<u8").reshape(-1, 2), column)
    if extras:
        hashes = hashes.copy()
        hashes[list(extras)] += np.frombuffer(b"".join(map(xxh3_128_digest, extras.values())), "<u8").reshape(-1, 2)
    return hashes


def ids(hashes: Hashes) -> KeptColumn:
    """Return 16 hex digits of the digest of each row: equal for equal messages, in any file, column or run."""
    digits = hashes[:, 0].astype(">u8").tobytes().hex().encode()
    return [digits[start : start + 16] for start in range(0, len(digits), 16)]


def pair_digests(prompts: Hashes, chosen: Hashes, rejected: Hashes) -> tuple[Hashes, npt.NDArray[np.bool_]]:
    """Return the digest of each pair, whichever answer is chosen, and whether the chosen one has the larger."""
    # compare the 128-bit digests: high words first, low words on a tie
    flipped = (chosen[:, 0] > rejected[:, 0]) | ((chosen[:, 0] == rejected[:, 0]) & (chosen[:, 1] > rejected[:, 1]))
    swap = flipped[:, None]
    smaller: Hashes = np.where(swap, rejected, chosen) * _FIRST
    larger: Hashes = np.where(swap, chosen, rejected) * _SECOND
    return prompts + smaller + larger, flipped


def folded_keys(column: MessageColumn, fold: Callable[[list[str], list[bytes]], list[bytes]], extras: Extras) -> Hashes:
    """Hash each row to uint64 (rows,), after `fold` has mapped the texts that count as equal to the same bytes."""
    folded = fold(column.texts, column.utf8)
    hashes = np.fromiter(map(xxh3_64_intdigest, folded), np.uint64, len(folded))
    keys = _sum_by_row(hashes[:, None], column)[:, 0]
    if extras:
        keys = keys.copy()
        also = fold([str(text, "utf-8") for text in extras.values()], list(extras.values()))
        keys[list(extras)] += np.fromiter(map(xxh3_64_intdigest, also), np.uint64, len(also))
    return keys


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


def _sum_by_row(hashes: Hashes, column: MessageColumn) -> Hashes:
    """Reduce uint64 (messages, lanes) to (rows, lanes). The factors make the sum depend on the order of messages."""
    factors = column.role_codes.astype(np.int64)
    if not column.single:
        # position of each message in its row: its index in the column less the index of the row's first message
        position = np.arange(len(hashes)) - np.repeat(column.ends[:-1], column.counts)
        factors += position % _POSITIONS * 8
    total: Hashes = column.sum_by_row(hashes * _FACTORS[factors][:, None])
    return total


def batch_digests(batch: PairBatch) -> list[Hashes]:
    """Return the digests of the three columns of a batch."""
    return list(map(digests, batch.columns, by_column(batch.extras).values()))


def row_keys(batch: PairBatch, columns: Sequence[Hashes], *, single: bool) -> RowKeys:
    """Return the keys of a batch, (rows,), from the digests of its columns; `single` if its rows are single answers."""
    keys = np.zeros(len(batch.lines), ROW_KEY)
    prompt, chosen, _ = batch.columns
    extras = by_column(batch.extras)
    keys["line"], keys["messages"], keys["changes"] = batch.lines, prompt.counts, batch.changes
    keys["split"] = batch.splits
    if single:
        hashes = columns[0]
        keys["prompt"] = folded_keys(chosen, lambda texts, utf8: utf8, extras["chosen"])
        keys["score"] = batch.scores
    else:
        hashes, keys["flipped"] = pair_digests(*columns)
        # a question with other tools is the same question: in both splits it would leak
        keys["prompt"] = folded_keys(prompt, fold, by_column(batch.extras, tools=False)["prompt"])
    keys["low"], keys["high"] = hashes.T
    measured = batch.lengths[0] is not None  # of all pairs or of none
    for name, column in zip(COLUMNS, batch.columns, strict=True):
        # int64 sums of the messages of each row, (rows,)
        keys["bytes"] += column.sum_by_row(column.sizes.astype(np.int64)).astype(np.uint32)
        keys[f"{name}_characters"] = column.sum_by_row(np.fromiter(map(len, column.texts), np.int64, len(column.texts)))
        for row, more in extras[name].items():
            keys["bytes"][row] += len(more)
            keys[f"{name}_characters"][row] += sum(map(len, unpack(batch.extras[row]).get(name, {}).values()))
        keys[f"{name}_tokens"] = [getattr(lengths, name) for lengths in batch.lengths] if measured else -1
    for row in {row for rows in extras.values() for row in rows}:
        keys["extras"][row] = kinds_of(batch.extras[row])
    return keys
