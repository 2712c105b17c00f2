"""Lay out a padded preference batch as one packed row: where each token comes from, and which keys it sees."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F


@dataclass(frozen=True)
class Branch:
    """A causal run `[start, stop)` of the packed row, whose queries also see the keys `[prefix, prefix_end)`."""

    start: int
    stop: int
    prefix: int
    prefix_end: int


@dataclass(frozen=True)
class Layout:
    """Where each packed token comes from and goes to: N packed tokens, M real tokens of the padded `[2B, T]` batch."""

    gather: torch.Tensor
    """[N] flat padded index of each packed token."""
    position_ids: torch.Tensor
    """[1, N] position of each packed token in its own row."""
    padded: torch.Tensor
    """[M] flat padded index of each real token."""
    packed: torch.Tensor
    """[M] index of the packed token that computes it; a prefix token computes two."""
    counts: torch.Tensor
    """[1, N] padded rows that each packed token stands for: 2 in the prefix, else 1."""
    branches: list[Branch]
    keys: torch.Tensor
    """[K] packed index of the keys of every branch, branch after branch; K > N, as prefixes repeat."""
    query_bounds: torch.Tensor
    """[branches + 1] int32 cumulative query counts, as varlen attention takes them."""
    key_bounds: torch.Tensor
    """[branches + 1] int32 cumulative key counts."""
    longest_query: int
    longest_key: int


def prefix_lengths(input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
    """Return `[B]`: the number of leading tokens that rows i and B + i of a right-padded batch `[2B, T]` share."""
    first, second = input_ids.chunk(2)
    real = attention_mask.bool()
    equal = (first == second) & real[: len(first)] & real[len(first) :]
    # 1 1 0 1 -> 1 1 0 0: the product stops at the first difference
    return equal.long().cumprod(dim=1).sum(dim=1)


def build_layout(input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Layout:
    """Lay out a right-padded batch `[2B, T]` whose rows i and B + i are the chosen and rejected side of pair i.

    The prefix is the longest common run of tokens, so answers that begin alike share that part as well.
    """
    pairs, width = input_ids.shape[0] // 2, input_ids.shape[1]
    real = attention_mask.bool()
    prefix = prefix_lengths(input_ids, attention_mask)
    # the only transfer from the device: [B, 3] lengths, from which the CPU builds all indices
    lengths = torch.stack([real[:pairs].sum(dim=1), real[pairs:].sum(dim=1), prefix], dim=1).tolist()

    gather, positions, padded, packed, counts, branches = [], [], [], [], [], []
    offset = 0
    for pair, (chosen, rejected, shared) in enumerate(lengths):
        # padded rows begin at `first` and `second`; packed: [offset, tail) is chosen, [tail, end) rejected's rest
        first, second = pair * width, (pairs + pair) * width
        tail = offset + chosen
        end = tail + rejected - shared
        gather += [torch.arange(first, first + chosen), torch.arange(second + shared, second + rejected)]
        positions += [torch.arange(chosen), torch.arange(shared, rejected)]
        padded += [torch.arange(first, first + chosen), torch.arange(second, second + rejected)]
        packed += [torch.arange(offset, tail), torch.arange(offset, offset + shared), torch.arange(tail, end)]
        counts += [torch.full((shared,), 2), torch.ones(end - offset - shared, dtype=torch.long)]
        # chosen is causal by itself, prefix included; rejected's rest also sees the prefix at its beginning
        branches.append(Branch(offset, tail, offset, offset))
        if end > tail:
            branches.append(Branch(tail, end, offset, offset + shared))
        offset = end

    keys = [torch.arange(*span) for b in branches for span in ((b.prefix, b.prefix_end), (b.start, b.stop))]
    query_counts = [b.stop - b.start for b in branches]
    key_counts = [b.stop - b.start + b.prefix_end - b.prefix for b in branches]

    def joined(parts: list[torch.Tensor]) -> torch.Tensor:
        return torch.cat(parts).to(input_ids.device, non_blocking=True)

    def bounds(counts: list[int]) -> torch.Tensor:
        return F.pad(torch.tensor(counts).cumsum(0), (1, 0)).to(input_ids.device, torch.int32)

    return Layout(
        gather=joined(gather),
        position_ids=joined(positions)[None],
        padded=joined(padded),
        packed=joined(packed),
        counts=joined(counts)[None],
        branches=branches,
        keys=joined(keys),
        query_bounds=bounds(query_counts),
        key_bounds=bounds(key_counts),
        longest_query=max(query_counts),
        longest_key=max(key_counts),
    )
