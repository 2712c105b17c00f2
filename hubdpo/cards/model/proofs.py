"""What `make downstream` saw when it ran a card's commands: which version of which program gave PEFT's answers.

`tests/downstream` writes the file; cards and `hubdpo inspect` take their statement from it.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

PROOFS_FILE = "downstream.json"


@dataclass(frozen=True)
class Proof:
    """One comparison of a program with PEFT, on greedy answers of the same adapter."""

    program: str
    what: str
    """What ran: the card's commands, with additions that are named, or a further way of the same program."""
    version: str
    compared: str
    tokens: int
    equal: int
    """Number of greedy tokens, and of those equal to PEFT's, up to the first of each answer that is not."""
    largest_difference: float | None
    """Of the log-probability of these tokens, in nats. None where the program does not report any."""
    tolerance: float
    lead: float | None = None
    """Of PEFT's token over its second best, in nats, where an answer parts from PEFT's."""

    @property
    def words(self) -> str:
        near = f", log-probabilities within {self.largest_difference:.1g} nats" if self.largest_difference else ""
        if self.largest_difference == 0:
            near = ", and so are the log-probabilities"
        parted = "" if self.lead is None else f"; they part where its two best are {self.lead:.1g} nats apart"
        return f"{self.version}: {self.equal} of {self.tokens} greedy tokens are as with PEFT{parted}{near}"


@functools.cache
def read_file() -> Mapping[str, Any]:
    """Return the file: `date`, `model`, `programs` with the rows, and `not_run` with reasons by program."""
    content: dict[str, Any] = json.loads((files("hubdpo.cards.model") / PROOFS_FILE).read_text("utf-8"))
    return content


def read_proofs() -> dict[str, Proof]:
    """Return the proof of each program that ran the commands of a card: the first of its rows."""
    found: dict[str, Proof] = {}
    for row in read_file()["programs"]:
        found.setdefault(row["program"], Proof(**row))
    return found
