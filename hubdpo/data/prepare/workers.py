"""Where the tasks of prepare run: here, in processes of this machine, or on a Ray cluster. The results are the same."""

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
    """Applies a pure function to tasks, at once, and gives the results in order; their errors are raised there.

    `later` applies one to a single task, beside others where there are workers, and gives what to call for the result.
    Functions, tasks and results must pickle. A worker that dies is a MachineError at the next result.
    """

    def map(self, function: Callable[[In], Out], tasks: Sequence[In]) -> Iterator[Out]: ...

    def later(self, function: Callable[[In], Out], task: In) -> Callable[[], Out]: ...

    def stop(self, *, failed: bool) -> None:
        """End the workers, at once where the work has failed."""


@contextmanager
def engine_for(name: str, num_proc: int | None) -> Iterator[Engine]:
    """Give the engine of `--engine`, whose workers end with the body.

    Raise ConfigError when it cannot start, and when Ray is asked for and not installed.
    """
    # each brings what the other does not need
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
