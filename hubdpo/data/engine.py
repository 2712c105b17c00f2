"""Where the tasks of prepare run: here, in processes of this machine, or on a Ray cluster. The results are the same."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

from hubdpo.errors import ConfigError

In = TypeVar("In")
Out = TypeVar("Out")
AHEAD = 4
"""Tasks in flight for each worker: enough to keep it busy, few enough that a failure stops the rest."""
IDLE_SECONDS = 10


class Engine(Protocol):
    """Applies a pure function to tasks and gives the results in their order; what a task raises is raised here."""

    def map(self, function: Callable[[In], Out], tasks: Sequence[In]) -> Iterator[Out]: ...


def engine_for(name: str, num_proc: int | None) -> Engine:
    """Return the engine of `--engine`. Raise ConfigError when Ray is asked for and not installed."""
    if name == "ray":
        return _Ray(num_proc)
    return _Local(num_proc or _cores())


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Local:
    """Processes that import nothing of the caller's script, so no `if __name__` is needed there; one task runs here."""

    def __init__(self, workers: int) -> None:
        self._workers = workers

    def map(self, function: Callable[[In], Out], tasks: Sequence[In]) -> Iterator[Out]:
        if min(self._workers, len(tasks)) < 2:
            yield from map(function, tasks)
            return
        import loky

        executor = loky.get_reusable_executor(max_workers=self._workers, timeout=IDLE_SECONDS)
        waiting: deque[Any] = deque()
        todo = iter(tasks)
        try:
            for _ in range(len(tasks)):
                while len(waiting) < AHEAD * self._workers and (task := next(todo, None)) is not None:
                    waiting.append(executor.submit(function, task))
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


class _Ray:
    def __init__(self, workers: int | None) -> None:
        try:
            import ray
        except ImportError:
            raise ConfigError(
                "`--engine ray` needs Ray, which is not installed", hint='pip install "hubdpo[ray]"'
            ) from None
        self._ray: Any = ray
        if not ray.is_initialized():
            # the address of a cluster comes from RAY_ADDRESS, as Ray documents; without one it starts on this machine
            ray.init(
                log_to_driver=False,
                include_dashboard=False,
                num_cpus=None if os.environ.get("RAY_ADDRESS") else workers,
            )

    def map(self, function: Callable[[In], Out], tasks: Sequence[In]) -> Iterator[Out]:
        remote = self._ray.remote(function)
        ahead = AHEAD * max(int(self._ray.cluster_resources().get("CPU", 1)), 1)
        waiting: deque[Any] = deque()
        todo = iter(tasks)
        for _ in range(len(tasks)):
            while len(waiting) < ahead and (task := next(todo, None)) is not None:
                waiting.append(remote.remote(task))
            try:
                yield self._ray.get(waiting.popleft())
            except self._ray.exceptions.RayTaskError as problem:
                raise problem.cause from None
