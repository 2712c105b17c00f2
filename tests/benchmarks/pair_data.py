"""Tokenised pairs with the lengths of published preference data: single ones, and all pairs of several answers."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch

Row = dict[str, list[int]]
Lengths = tuple[float, float]
"""Median tokens, and log-normal spread."""

VOCABULARY = 3584
LENGTHS: dict[str, tuple[Lengths, Lengths]] = {  # of prompt and answers
    "HH-RLHF-like": ((127, 0.8), (59, 0.7)),
    "UltraFeedback-like": ((80, 0.9), (300, 0.6)),
    "HelpSteer-like": ((560, 0.6), (190, 0.6)),
    "StackExchange-like": ((230, 0.7), (260, 0.7)),
}
LONGEST = 1024


@dataclass(frozen=True)
class Answered:
    """Prompts with several answers, of which every pair is trained on."""

    prompt: Lengths
    answer: Lengths
    answers: int

    @property
    def pairs(self) -> int:
        """Pairs of a prompt."""
        return self.answers * (self.answers - 1) // 2


GROUPED = {
    "UltraFeedback-like": Answered(*LENGTHS["UltraFeedback-like"], 4),
    # its card tells no lengths; assumed are prompts as UltraFeedback's, which are among them, and shorter answers
    "Nectar-like": Answered((80, 0.9), (200, 0.7), 7),
    "StackExchange-like": Answered(*LENGTHS["StackExchange-like"], 5),
}


def rows(shape: str, pairs: int) -> list[Row]:
    """Return pairs of different prompts."""
    draw = torch.Generator().manual_seed(0)
    prompt, answer = LENGTHS[shape]
    return [
        {"prompt_ids": _ids(prompt, draw), "chosen_ids": _ids(answer, draw), "rejected_ids": _ids(answer, draw)}
        for _ in range(pairs)
    ]


def by_length(data: list[Row], pairs: int) -> list[list[Row]]:
    """Cut into batches of like length, as `group_by_length` does over the whole data set."""
    ordered = sorted(
        data, key=lambda row: len(row["prompt_ids"]) + max(map(len, (row["chosen_ids"], row["rejected_ids"])))
    )
    return [ordered[start : start + pairs] for start in range(0, len(ordered), pairs)]


def prompts(shape: str, count: int) -> list[list[Row]]:
    """Return the pairs of each prompt, every answer with every one ranked below it."""
    draw = torch.Generator().manual_seed(0)
    kind, groups = GROUPED[shape], []
    for _ in range(count):
        prompt = _ids(kind.prompt, draw)
        answers = [_ids(kind.answer, draw) for _ in range(kind.answers)]
        pairs = itertools.combinations(answers, 2)
        groups.append([{"prompt_ids": prompt, "chosen_ids": a, "rejected_ids": b} for a, b in pairs])
    return groups


def apart(groups: list[list[Row]], pairs: int) -> list[list[Row]]:
    """Return the pairs in batches in which none have their prompt in common, as in a shuffled set of many prompts.

    There are at least as many prompts as pairs in a batch, and the batches together have every pair once.
    """
    assert len(groups) >= pairs
    draw = torch.Generator().manual_seed(1)
    shuffled = [[group[place] for place in torch.randperm(len(group), generator=draw)] for group in groups]
    # one pair of each prompt in turn: so many neighbours are of different prompts
    dealt = [row for turn in zip(*shuffled, strict=True) for row in turn]
    return [dealt[start : start + pairs] for start in range(0, len(dealt), pairs)]


def _ids(lengths: Lengths, draw: torch.Generator) -> list[int]:
    median, spread = lengths
    length = int(torch.exp(torch.randn((), generator=draw) * spread) * median) + 2
    return torch.randint(10, VOCABULARY, (min(length, LONGEST // 2),), generator=draw).tolist()
