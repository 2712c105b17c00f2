"""The scores of held-out pairs: which model ranks which pair right, in the order and with the outcome asked for."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hubdpo.artefacts.formats.pair_scores import COUNTS, START, Numbers, columns_of, from_lines
from hubdpo.artefacts.manifests.manifest import EVAL_PAIRS_FILE
from hubdpo.hub.snapshot import Snapshot
from hubdpo.view.thing import Thing

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
MEASURES: dict[str, str] = {"token": "per token", "answer": "whole answer"}
OUTCOMES = {
    "only-adapter": "only the adapter is right", "only-base": "only the base is right", "both": "both are right",
    "neither": "both are wrong", "adapter-wrong": "the adapter is wrong",
}  # fmt: skip
ORDERS = {
    "lowest": "adapter's margin, lowest first", "highest": "adapter's margin, highest first",
    "lost": "lost most to the base first", "gained": "gained most first",
    "reward": "reward margin, lowest first", "row": "row in the dataset",
}  # fmt: skip


class Scored(NamedTuple):
    """What a model gives the two answers: log-probabilities of the whole answers in nats, and those a token."""

    model: str
    chosen: float
    rejected: float
    chosen_per_token: float
    rejected_per_token: float
    margin: float
    """Chosen less rejected, by the measure that is asked for: above 0 the pair is ranked right."""


@dataclass(frozen=True)
class Scores:
    """The columns `[pairs]` of `eval_pairs.jsonl`."""

    columns: dict[str, Numbers]
    beta: float | None

    def __len__(self) -> int:
        return len(self.columns["row"])

    @property
    def models(self) -> tuple[str, ...]:
        return ("base", "adapter", *((START,) if columns_of(START)[0] in self.columns else ()))

    def margins(self, model: str, measure: str) -> Floats:
        """Return chosen less rejected, of whole answers or per token."""
        sums: list[Floats] = [self.columns[name].astype(np.float64) for name in columns_of(model)]
        if measure == "token":
            sums = [values / self.columns[count] for values, count in zip(sums, COUNTS[1:], strict=True)]
        margins: Floats = sums[0] - sums[1]
        return margins

    @cached_property
    def rewards(self) -> Floats:
        """The reward margins, in units of beta where the run recorded none."""
        before = START if START in self.models else "base"
        margins: Floats = (self.beta or 1.0) * (self.margins("adapter", "answer") - self.margins(before, "answer"))
        return margins

    def with_outcome(self, outcome: str, measure: str) -> Flags:
        base, adapter = (self.margins(model, measure) > 0 for model in ("base", "adapter"))
        everywhere: Flags = np.ones(len(self), bool)
        flags: dict[str, Flags] = {
            "only-adapter": adapter & ~base, "only-base": base & ~adapter, "both": base & adapter,
            "neither": ~(base | adapter), "adapter-wrong": ~adapter,
        }  # fmt: skip
        return flags.get(outcome, everywhere)

    def order(self, order: str, measure: str) -> npt.NDArray[np.int64]:
        """Return the places of all pairs in an order; equal ones as in the dataset."""
        adapter = self.margins("adapter", measure)
        gain = adapter - self.margins("base", measure)
        keys = {
            "lowest": adapter, "highest": -adapter, "lost": gain, "gained": -gain, "reward": self.rewards,
            "row": self.columns["row"],
        }  # fmt: skip
        places: npt.NDArray[np.int64] = np.lexsort((self.columns["row"], keys[order]))
        return places

    def at(self, place: int, measure: str) -> list[Scored]:
        """Return what each model gives the pair at a place."""
        tokens = [int(self.columns[name][place]) for name in COUNTS[1:]]
        scored = []
        for model in self.models:
            chosen, rejected = (float(self.columns[name][place]) for name in columns_of(model))
            scored.append(Scored(
                model, chosen, rejected, chosen / tokens[0], rejected / tokens[1],
                float(self.margins(model, measure)[place]),
            ))  # fmt: skip
        return scored


def scores_of(thing: Thing, snapshot: Snapshot) -> Scores | None:
    """Return the scores of a run, None where it has none. Raise ArtefactError for a file that cannot be read."""
    if EVAL_PAIRS_FILE not in snapshot.files:
        return None
    path = snapshot.path(EVAL_PAIRS_FILE)
    stamp = (path.stat().st_mtime_ns, path.stat().st_size) if path is not None else snapshot.digest(EVAL_PAIRS_FILE)
    beta = snapshot.run.beta if snapshot.run is not None else None
    return thing.keep(
        f"scores {stamp}", lambda: Scores(from_lines(snapshot.read(EVAL_PAIRS_FILE), EVAL_PAIRS_FILE), beta)
    )
