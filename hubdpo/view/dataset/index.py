"""What is known of every row without reading it again, gathered in the background from the first visit on."""

from __future__ import annotations

import threading
from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hubdpo import console
from hubdpo.artefacts.formats.messages import COLUMNS
from hubdpo.view.dataset.table import Table
from hubdpo.view.dataset.texts import BITS, flags_of, read_texts
from hubdpo.view.page import known_problem

MOST_TOTALS = 1000
_gathering = threading.Lock()
"""Held by the one index that is made: whoever opens many versions on a Hub must not start as many readers."""


@dataclass
class Known:
    """Facts of a split; those of its first `groups` row groups are there.

    characters  int32 (rows, 3): of prompt, chosen and rejected
    prompts     uint64 (rows,): hashes of the prompts
    flags       uint8 (row groups, 2 ** BITS / 8), see `flags_of`
    """

    characters: npt.NDArray[np.int32]
    prompts: npt.NDArray[np.uint64]
    flags: npt.NDArray[np.uint8]
    groups: int = 0


class Index:
    """Facts of all splits of a table."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self.splits = {
            split: Known(
                np.zeros((rows, len(COLUMNS)), np.int32), np.zeros(rows, np.uint64),
                np.zeros((len(table.groups(split)), (1 << BITS) // 8), np.uint8),
            )
            for split, rows in table.splits.items()
        }  # fmt: skip
        self.problem = ""
        """Why the rest of the rows could not be read."""
        self.totals: dict[Hashable, int] = {}
        """Rows that fit, by what was searched to the end."""
        self.shared_prompts: int | None = None
        """Prompts that are in more than one split; None until all are known."""
        # no daemon: the interpreter would end while Arrow's code runs, which aborts
        self._thread = threading.Thread(target=self._in_turn, daemon=False, name="index")
        self._thread.start()

    def wait(self, seconds: float) -> bool:
        """Wait until all is known, or for some time. Return whether it is."""
        self._thread.join(seconds)
        return self.shared_prompts is not None

    def remember(self, searched: Hashable, total: int) -> None:
        if len(self.totals) >= MOST_TOTALS:
            self.totals.clear()
        self.totals[searched] = total

    def share(self) -> float:
        """Return the share of the row groups that are known."""
        groups = sum(len(known.flags) for known in self.splits.values())
        return sum(known.groups for known in self.splits.values()) / max(groups, 1)

    def _in_turn(self) -> None:
        with _gathering:
            self._gather()

    def _gather(self) -> None:
        try:
            for split, known in self.splits.items():
                groups = self._table.groups(split)
                for number, (group, rows) in enumerate(zip(groups, self._table.read(groups, COLUMNS), strict=True)):
                    if not threading.main_thread().is_alive():  # the command has ended
                        return
                    texts = read_texts(rows)
                    for column, text in enumerate(texts):
                        known.characters[group.start : group.stop, column] = text.characters()
                    known.prompts[group.start : group.stop] = texts[0].hashes()
                    known.flags[number] = flags_of(texts)
                    known.groups = number + 1
            distinct = [np.unique(known.prompts) for known in self.splits.values()]
            together = np.concatenate([np.zeros(0, np.uint64), *distinct])
            self.shared_prompts = len(together) - len(np.unique(together))
        except Exception as problem:
            told = known_problem(self._table.ref, problem)
            self.problem = told.message if told else "of a bug in hubdpo, whose traceback was printed"
            if told is None:
                raise
            console.warn(f"not all rows can be searched: {self.problem}")
