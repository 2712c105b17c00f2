"""Run the tasks of prepare in this process, in worker processes, or on a Ray cluster, with the same results."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol, TypeVar

In = TypeVar("In")
Out = TypeVar("Out")
AHEAD = 4
"""Tasks in flight for each worker: enough to keep it busy, few enough that a failure stops the rest."""
FEWER = "--num-proc 1"


class Engine(Protocol):
    """Applies pure functions to tasks. Functions, tasks and results must pickle.

    `map` starts at once and yields the results in order; errors of tasks are raised there. `later` starts one task and
    returns a function that waits for its result. A worker that dies raises MachineError at the next result.
    """

    def map(self, function: Callable[[In], Out], tasks: Sequence[In]) -> Iterator[Out]: ...

    def later(self, function: Callable[[In], Out], task: In) -> Callable[[], Out]: ...

    def stop(self, *, failed: bool) -> None:
        """End the workers; kill them if the work has failed."""


@contextmanager
def engine_for(name: str, num_proc: int | None) -> Iterator[Engine]:
    """Start the engine of `--engine`, and end its workers with the body.

    Raise ConfigError if it cannot start, or if Ray is not installed.
    """
    # imported here: each engine needs modules that the other does not
    if name == "ray":
        from hubdpo.data.prepare.ray_workers import RayEngine

        engine: Engine = RayEngine(num_proc)
    else:
        from hubdpo.data.prepare.local_workers import LocalEngine

        engine = LocalEngine(num_proc or _cores())
    try:
        yield engine
    except BaseException:
        engine.stop(failed=True)
        raise
    engine.stop(failed=False)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
