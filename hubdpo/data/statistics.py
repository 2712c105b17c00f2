"""What the card tells about a split: counts and lengths, measured while the rows go by."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any

from hubdpo.data.preference import PreferenceExample

SIDES = ("prompt", "chosen", "rejected")


class SplitStatistics:
    """Gather one split; eight bytes a row and figure, so that millions of rows fit in memory."""

    def __init__(self) -> None:
        self.pairs = 0
        self._prompts: set[bytes] = set()
        self._turns = array("q")
        self._characters = {side: array("q") for side in SIDES}
        self._longer = 0

    def add(self, example: PreferenceExample, key: bytes) -> None:
        self.pairs += 1
        self._prompts.add(key)
        self._turns.append(len(example.prompt))
        lengths = {side: sum(len(message["content"]) for message in getattr(example, side)) for side in SIDES}
        for side, length in lengths.items():
            self._characters[side].append(length)
        self._longer += lengths["chosen"] > lengths["rejected"]

    @property
    def prompts(self) -> set[bytes]:
        return self._prompts

    def summary(self) -> dict[str, Any]:
        """Return pairs, distinct prompts, messages in the prompt, characters, and how often chosen is the longer."""
        turns = sorted(self._turns)
        return {
            "pairs": self.pairs,
            "distinct_prompts": len(self._prompts),
            "prompt_messages": {"min": turns[0], "median": _at(turns, 0.5), "max": turns[-1]},
            "characters": {side: _spread(self._characters[side]) for side in SIDES},
            "chosen_is_longer": round(self._longer / self.pairs, 4),
        }


def _spread(values: Sequence[int]) -> dict[str, int]:
    ordered = sorted(values)
    return {"p50": _at(ordered, 0.5), "p95": _at(ordered, 0.95), "max": ordered[-1]}


def _at(ordered: Sequence[int], share: float) -> int:
    """Return the nearest-rank percentile."""
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]
