"""How the adapter of a run was chosen: among its checkpoints, and among the runs of a sweep."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from hubdpo.artefacts.manifests.manifest import Count, Number, Part


class ChosenStep(Part):
    """The checkpoint whose adapter was taken, as the best in a metric of the test split."""

    step: Count
    metric: str
    value: Number
    of: Count


class Selection(Part):
    """The place of a run among the finished runs of a sweep, ranked by their held-out reward accuracy."""

    rank: Annotated[Count, Field(ge=1)]
    of: Count
    not_told_apart: Count
    """Other runs whose interval overlaps that of the best one."""
