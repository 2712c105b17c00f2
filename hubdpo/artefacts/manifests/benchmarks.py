"""Part `benchmarks` of `eval.json`: what lm-evaluation-harness measured of base and adapter."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from hubdpo.artefacts.manifests.intervals import Interval
from hubdpo.artefacts.manifests.manifest import Count, Number, Part, Sha256

MOST_TASKS, MOST_METRICS = 200, 20


class Metric(Part):
    """A metric of a task, as the harness computes it, with its standard error where it has one."""

    name: str
    filter: str | None = None
    """The harness's filter that the answers went through; None for none."""
    base: Number
    base_stderr: Number | None = None
    adapter: Number
    adapter_stderr: Number | None = None
    rise: Interval | None = None
    """Adapter less base, on the same examples; None where the metric is no mean over them."""
    higher_is_better: bool | None = None


class Benchmark(Part):
    """A task of the harness, or a group of them."""

    name: str
    version: str | None = None
    sha256: Sha256 | None = None
    shots: Count | None = None
    examples: Count | None = None
    metrics: Annotated[list[Metric], Field(max_length=MOST_METRICS)]


class Benchmarks(Part):
    """What lm-evaluation-harness measured, without a chat template."""

    harness: str
    """Version of lm-evaluation-harness."""
    weights: str | None = None
    limit: Count | None = None
    """Examples of each task at most; None for all."""
    tasks: Annotated[list[Benchmark], Field(max_length=MOST_TASKS)]
