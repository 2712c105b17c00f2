"""Where the tasks of prepare run: here, in processes of this machine, or on a Ray cluster. The results are the same."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import islice
from typing import Any, Protocol, TypeVar

from hubdpo import console
from hubdpo.errors import ConfigError

In = TypeVar("In")
Out = TypeVar("Out")
AHEAD = 4
"""Tasks in flight for each worker: enough to keep it busy, few enough that a failure stops the rest."""


class Engine(Protocol):
    """Applies a pure function to tasks, at once, and gives the results in order; their errors are raised there.

    `later` applies one to a single task, beside others where there are workers, and gives what to call for the result.
    """

    def map(self, function: Callable[[In], Out], tasks: Sequence[In]) -> Iterator[Out]: ...

    def later(self, function: Callable[[In], Out], task: In) -> Callable[[], Out]: ...


@contextmanager
def engine_for(name: str, num_proc: int | None) -> Iterator[Engine]:
    """Give the engine of `--engine`. Raise ConfigError when Ray is asked for and not installed."""
    if name == "ray":
        yield _Ray(num_proc)
        return
    engine = _Local(num_proc or _cores())
    try:
        yield engine
    finally:
        engine.stop()


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Local:
    """Processes of this machine, forked where that is the custom, so that they need not load a tokenizer again.

    They run only tasks of hubdpo, which start no threads and touch no accelerator. A single task runs in this process.
    """

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._pool: ProcessPoolExecutor | None = None

    def map(self, function: Callable[[In], Out], tasks: Sequence[In]) -> Iterator[Out]:
        if min(self._workers, len(tasks)) < 2:
            return map(function, tasks)
        if self._pool is None:
            context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
            self._pool = ProcessPoolExecutor(self._workers, context, initializer=_end_with, initargs=(os.getpid(),))
        todo = iter(tasks)
        pool = self._pool
        waiting = deque(pool.submit(function, task) for task in islice(todo, AHEAD * self._workers))
        return self._results(pool, function, waiting, todo)

    def _results(
        self, pool: ProcessPoolExecutor, function: Callable[[In], Out], waiting: deque[Future[Out]], todo: Iterator[In]
    ) -> Iterator[Out]:
        while waiting:
            result = waiting.popleft().result()
            waiting.extend(pool.submit(function, task) for task in islice(todo, 1))
            yield result

    def later(self, function: Callable[[In], Out], task: In) -> Callable[[], Out]:
        if self._pool is None:
            return partial(function, task)
        return self._pool.submit(function, task).result

    def stop(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)


def _end_with(parent: int) -> None:
    """End this process when its parent is gone, which a killed parent cannot ask for."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


class _Ray:
    def __init__(self, workers: int | None) -> None:
        try:
            import ray
        except ImportError:
            raise ConfigError(
                "`--engine ray` needs Ray, which is not installed", hint='pip install "hubdpo[ray]"'
            ) from None
        self._ray: Any = ray
        if os.environ.get("RAY_ADDRESS"):
            console.info(
                "the machines of a cluster must all see the sources and the output: give addresses, such as s3://"
            )
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
        todo = iter(tasks)
        waiting = deque(remote.remote(task) for task in islice(todo, ahead))
        return self._results(remote, waiting, todo)

    def later(self, function: Callable[[In], Out], task: In) -> Callable[[], Out]:
        return partial(self._result, self._ray.remote(function).remote(task))

    def _results(self, remote: Any, waiting: deque[Any], todo: Iterator[Any]) -> Iterator[Any]:
        while waiting:
            result = self._result(waiting.popleft())
            waiting.extend(remote.remote(task) for task in islice(todo, 1))
            yield result

    def _result(self, reference: Any) -> Any:
        try:
            return self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as problem:
            raise problem.cause from None
