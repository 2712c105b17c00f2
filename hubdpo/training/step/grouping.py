"""Order the pairs of an epoch so that those of one prompt meet in a step.

Pairs of one prompt repeat it, and with more than two answers they repeat the answers as well: all six pairs of four
answers have twelve sequences, of which four are distinct. A pass runs each of them once, for the pairs that are in it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import islice, pairwise

import numpy as np
import numpy.typing as npt
import xxhash
from torch.utils.data import Sampler

from hubdpo import console
from hubdpo.data.encoded.rows import TokenRows
from hubdpo.training.step.passes import closest_first

LOOK_AHEAD = 64
"""Groups among which one is sought that fits into the rest of a step."""
Keys = npt.NDArray[np.uint64]


def keys_of(rows: TokenRows, name: str) -> Keys:
    """Return a hash `[pairs]` of each list of a column."""
    values, offsets = rows.column(name)
    hashes = (xxhash.xxh3_64_intdigest(values[start:stop].data) for start, stop in pairwise(offsets.tolist()))
    return np.fromiter(hashes, dtype=np.uint64, count=len(rows))


class Groups:
    """The rows of each prompt, as token ids tell it: G groups of N rows."""

    def __init__(self, rows: TokenRows) -> None:
        _, first, group = np.unique(keys_of(rows, "prompt_ids"), return_index=True, return_inverse=True)
        by_first = np.empty(len(first), dtype=np.int64)
        by_first[np.argsort(first, kind="stable")] = np.arange(len(first))
        self.of_row = by_first[group.reshape(-1)]
        """[N] number of each row's group, in the order of their first rows."""
        self.order = np.argsort(self.of_row, kind="stable")
        """[N] the rows, group by group."""
        self.bounds = np.concatenate([[0], np.cumsum(np.bincount(self.of_row))])
        """[G + 1] where each group begins in `order`."""
        self._answers = [keys_of(rows, name) for name in ("chosen_ids", "rejected_ids")]

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def answers(self) -> int:
        """Return how many distinct answers there are, those of different prompts being different."""
        of_prompt = self.of_row.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)  # an odd number, modulo 2**64
        return len(np.unique(np.concatenate([of_prompt ^ answers for answers in self._answers])))

    def closest(self, group: int, shuffled: npt.NDArray[np.int64] | None = None) -> list[int]:
        """Return the rows of a group, so that the first n have few distinct answers."""
        members = self.order[self.bounds[group] : self.bounds[group + 1]]
        if shuffled is not None:
            members = members[shuffled]
        if len(members) < 3:
            return [int(row) for row in members]
        pairs = [[int(answers[row]) for answers in self._answers] for row in members]
        return [int(members[place]) for place in closest_first(pairs)]


def together(rows: TokenRows) -> TokenRows:
    """Return the rows with those of one prompt next to each other, in the order of their first ones."""
    groups = Groups(rows)
    if len(groups) == len(rows):
        return rows
    return rows.select(np.array([row for group in range(len(groups)) for row in groups.closest(group)], dtype=np.int64))


class GroupSampler(Sampler[int]):
    """Draws all rows of an epoch, group by group, in steps of `pairs`.

    Groups come in random order. A step takes whole groups as long as one of the next LOOK_AHEAD fits. Then the first of
    them is cut, and its rest opens the next step: every step has the same number of pairs. The order depends on seed
    and epoch alone.
    """

    def __init__(self, groups: Groups, *, pairs: int, seed: int) -> None:
        self._groups = groups
        self._pairs = pairs
        self._seed = seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._groups.of_row)

    def __iter__(self) -> Iterator[int]:
        for rows in self.steps():
            yield from rows

    def summary(self) -> str:
        """Say how many prompts and answers the rows have, and how many prompts this epoch cuts."""
        pairs, answers, cut = len(self), self._groups.answers(), self.cut()
        split = f"; {console.counted(cut, 'prompt')} cut between steps" if cut else ""
        return (
            f"{console.counted(len(self._groups), 'prompt')} of {pairs / len(self._groups):.1f} pairs, "
            f"{answers:,} distinct answers in {2 * pairs:,}{split}"
        )

    def cut(self) -> int:
        """Return how many groups are not whole in one step of this epoch."""
        seen = np.zeros(len(self._groups), dtype=np.int64)
        for rows in self.steps():
            seen[np.unique(self._groups.of_row[rows])] += 1
        return int((seen > 1).sum())

    def steps(self) -> Iterator[list[int]]:
        """Return the rows of each step; the last may have fewer pairs."""
        draw = np.random.default_rng([self._seed, self._epoch])
        sizes = np.diff(self._groups.bounds)
        # which pairs of a group come first when it is cut changes from epoch to epoch
        drawn = (
            self._groups.closest(group, draw.permutation(sizes[group]))
            for group in draw.permutation(len(self._groups)).tolist()
        )
        waiting = deque(islice(drawn, LOOK_AHEAD))
        step: list[int] = []
        while waiting:
            room = self._pairs - len(step)
            fitting = [place for place, rows in enumerate(waiting) if len(rows) <= room]
            if not fitting:
                step += waiting[0][:room]
                waiting[0] = waiting[0][room:]
            else:
                # the next one begins a step, so that each has its turn; the largest of the rest leaves least room
                chosen = max(fitting, key=lambda place: len(waiting[place])) if step else fitting[0]
                step += waiting[chosen]
                del waiting[chosen]
                waiting.extend(islice(drawn, 1))
            if len(step) == self._pairs:
                yield step
                step = []
        if step:
            yield step
