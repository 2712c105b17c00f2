"""`sweep.json` of a sweep folder: the runs, what was measured of each on the held-out pairs, and which is the best."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from hubdpo.artefacts.formats.bounded import JsonObject
from hubdpo.artefacts.manifests.intervals import Accuracy, Interval
from hubdpo.artefacts.manifests.manifest import Count, Manifest, Number, Part, Sha256


class Divergence(Part):
    """Mean KL(policy || reference) of the next token in nats, over so many scored tokens of so many held-out pairs."""

    value: Number
    tokens: Count
    pairs: Count
    interval: Interval | None = None
    """The same mean with its interval over the pairs; None in hubdpo 0.4 and earlier."""


class SweptRun(Part):
    """A run of a sweep, in the folder of its name; figures are those of the held-out pairs, as far as there are any."""

    name: Annotated[str, Field(pattern=r"^[\w+-][\w.+-]*$")]
    """Name of the run, and of its folder."""
    values: JsonObject
    """The options in which it differs from the other runs."""
    status: Literal["waiting", "complete", "failed"] = "waiting"
    reason: str | None = None
    """Why it failed."""
    in_grid: bool = True
    """Whether the grid of the last command still has it."""
    adapter: Sha256 | None = None
    """Hash of the adapter weights that were measured."""
    pairs: Count | None = None
    accuracy: Accuracy | None = None
    """Share of the held-out pairs that it ranks correctly, by DPO's implicit reward."""
    margin: Number | None = None
    """Mean reward margin, in units of the run's own beta."""
    divergence: Divergence | None = None
    loss: Number | None = None
    """The run's own loss on the test split in its last evaluation."""

    @property
    def kl(self) -> float | None:
        return self.divergence.value if self.divergence is not None else None


class SweepManifest(Manifest):
    """`sweep.json`, written again after each run."""

    hubdpo_version: str
    again: str
    """The command that goes on with it."""
    runs: list[SweptRun] = Field(default_factory=list)

    @property
    def ranked(self) -> list[SweptRun]:
        """The finished runs by held-out reward accuracy, equal ones by margin; none without a test split."""
        scored = [(run.accuracy.value, run) for run in self.runs if run.status == "complete" and run.accuracy]
        return [run for _, run in sorted(scored, key=lambda one: (-one[0], -(one[1].margin or 0.0), one[1].name))]

    @property
    def best(self) -> SweptRun | None:
        return next(iter(self.ranked), None)

    @property
    def like_the_best(self) -> list[SweptRun]:
        """The other runs whose 95 % interval overlaps that of the best one."""
        low = self.best.accuracy.low if self.best is not None and self.best.accuracy else 0.0
        return [run for run in self.ranked[1:] if run.accuracy and run.accuracy.high >= low]

    @property
    def in_order(self) -> list[SweptRun]:
        """All runs: the ranked ones, then the others as the grid has them."""
        ranked = self.ranked
        return [*ranked, *(run for run in self.runs if run not in ranked)]

    @property
    def failed(self) -> list[SweptRun]:
        return [run for run in self.runs if run.status == "failed"]
