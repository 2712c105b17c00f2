"""Lay out a padded preference batch as one packed row in which every token stands once after what precedes it.

The sequences of a batch form a trie: those that begin alike share that part, whether they are the two sides of a pair,
several answers to one prompt, the same answer in several pairs, or prompts under one system message. Each edge of the
trie is a branch of the packed row. A layout is built from numbers on the CPU, before the batch goes to the device, so
it costs no transfer from the device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

Ids = npt.NDArray[np.integer]
Span = tuple[int, int]
"""Packed tokens `[start, stop)`."""


@dataclass(frozen=True)
class Branch:
    """A causal run `[start, stop)` of the packed row, whose queries also see the keys of `before`.

    These spans hold the beginning of the sequence, in order: their tokens have the positions 0 to `shared` - 1.
    """

    start: int
    stop: int
    before: tuple[Span, ...] = ()

    @property
    def shared(self) -> int:
        """Number of keys before the branch."""
        return sum(stop - start for start, stop in self.before)


@dataclass(frozen=True)
class Layout:
    """A padded batch `[2B, T]` as N packed tokens; S of its positions predict a scored token, and D differ of these."""

    input_ids: torch.Tensor
    """[1, N] packed token ids."""
    position_ids: torch.Tensor
    """[1, N] position of each packed token in its own sequence."""
    counts: torch.Tensor
    """[1, N] padded rows that each packed token stands for."""
    branches: list[Branch]
    keys: torch.Tensor
    """[K] packed index of the keys of every branch, branch after branch; K > N, as what is shared repeats."""
    query_bounds: torch.Tensor
    """[branches + 1] int32 cumulative query counts, as varlen attention takes them."""
    key_bounds: torch.Tensor
    """[branches + 1] int32 cumulative key counts."""
    longest_query: int
    longest_key: int
    hidden: torch.Tensor
    """[D] packed index of the token before each scored one, whose hidden state predicts it."""
    labels: torch.Tensor
    """[D] token ids."""
    spread: torch.Tensor
    """[S] which of the D belongs to a position."""
    places: torch.Tensor
    """[S] flat index of each position in `[2B, T - 1]`."""
    shape: tuple[int, int]
    """(2B, T - 1)."""

    def to(self, device: torch.device) -> Layout:
        """Return a copy whose tensors are on the device; they are pinned for the transfer, which is not awaited."""
        tensors = {name: value for name, value in vars(self).items() if isinstance(value, torch.Tensor)}
        return replace(self, **{name: to_device(value, device) for name, value in tensors.items()})


def to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return a tensor of the CPU on the device, without awaiting its transfer to a GPU."""
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def build_layout(input_ids: torch.Tensor, attention_mask: torch.Tensor, completion_mask: torch.Tensor) -> Layout:
    """Lay out right-padded sequences `[2B, T]`, and find what the language-model head computes of them.

    `completion_mask` has 1 at the tokens that are scored. The first token of a sequence has nothing that predicts it.
    """
    lengths = attention_mask.sum(dim=1).tolist()
    rows = [row[:length] for row, length in zip(input_ids.cpu().numpy(), lengths, strict=True)]
    width = input_ids.shape[1]
    tokens, positions, parents, branches, index = _trie(rows)

    real = np.arange(width) < np.array(lengths)[:, None]  # [2B, T]
    packed = np.concatenate(index)  # [real tokens] index of the packed token that computes each
    packed_of = np.zeros(real.shape, dtype=np.int64)
    packed_of[real] = packed  # both go through the real tokens row by row
    # the hidden state at t predicts token t + 1, so places are counted without the first column: [S] in [2B, T - 1]
    places = np.flatnonzero(completion_mask.cpu().numpy()[:, 1:] * real[:, 1:])
    # a token that several rows share has one parent, so the head computes it once: D <= S rows of logits
    labels, spread = np.unique(packed_of[:, 1:].reshape(-1)[places], return_inverse=True)

    # varlen attention wants the keys of a branch in one run: those of its ancestors, repeated, and then its own
    keys = [np.arange(*span) for branch in branches for span in (*branch.before, (branch.start, branch.stop))]
    query_counts = [branch.stop - branch.start for branch in branches]
    key_counts = [branch.stop - branch.start + branch.shared for branch in branches]
    return Layout(
        input_ids=torch.from_numpy(tokens)[None],
        position_ids=torch.from_numpy(positions)[None],
        counts=torch.from_numpy(np.bincount(packed, minlength=len(tokens)))[None],
        branches=branches,
        keys=torch.from_numpy(np.concatenate(keys)),
        query_bounds=_bounds(query_counts),
        key_bounds=_bounds(key_counts),
        longest_query=max(query_counts),
        longest_key=max(key_counts),
        hidden=torch.from_numpy(parents[labels]),
        labels=torch.from_numpy(tokens[labels]),
        spread=torch.from_numpy(spread.reshape(-1)),
        places=torch.from_numpy(places),
        shape=(len(rows), width - 1),
    )


def trie_tokens(sequences: Sequence[Ids]) -> int:
    """Return the number of packed tokens that hold these sequences."""
    ordered = sorted(sequences, key=_sort_key)  # neighbours then share the most, as in `_trie`
    shared = sum(map(common, ordered, ordered[1:]))
    return sum(map(len, ordered)) - shared


def common(first: Ids, second: Ids) -> int:
    """Return the number of leading tokens that two sequences share."""
    shorter = min(len(first), len(second))
    differs = first[:shorter] != second[:shorter]
    at = int(differs.argmax()) if shorter else 0
    return at if shorter and differs[at] else shorter


def _trie(rows: Sequence[Ids]) -> tuple[Ids, Ids, Ids, list[Branch], list[Ids]]:
    """Return of each packed token its id, position and parent; the branches; and the packed tokens of each row.

    In sorted order, a row shares with the one before it all that it shares with any earlier row.
    """
    tokens, positions, parents, branches = [], [], [], []
    index: list[Ids] = [np.empty(0, dtype=np.int64)] * len(rows)
    last, size = -1, 0  # the row before, and the tokens so far
    for row in sorted(range(len(rows)), key=lambda row: _sort_key(rows[row])):
        ids = rows[row]
        shared = common(rows[last], ids) if last >= 0 else 0
        before = index[last][:shared]
        own = np.arange(size, size + len(ids) - shared)
        if len(own):  # a row that repeats the one before, as an answer of two pairs does, adds nothing
            branches.append(Branch(size, size + len(own), _spans(before)))
            tokens.append(ids[shared:].astype(np.int64))
            positions.append(np.arange(shared, len(ids)))
            # the first token of a sequence has no parent; it is never scored, so -1 is never looked up
            parents += [before[-1:] if shared else np.array([-1]), own[:-1]]
            size += len(own)
        index[row] = np.concatenate([before, own])
        last = row
    return np.concatenate(tokens), np.concatenate(positions), np.concatenate(parents), branches, index


def _sort_key(ids: Ids) -> bytes:
    """Return bytes that sort as the ids do."""
    return ids.astype(">u4").tobytes()  # big-endian, so that the first byte that differs decides


def _spans(packed: Ids) -> tuple[Span, ...]:
    """Return where consecutive indices begin and end."""
    runs = np.split(packed, np.flatnonzero(np.diff(packed) != 1) + 1) if len(packed) else []
    return tuple((int(run[0]), int(run[-1]) + 1) for run in runs)


def _bounds(counts: list[int]) -> torch.Tensor:
    return torch.from_numpy(np.concatenate([[0], np.cumsum(counts)]).astype(np.int32))
