"""The engine of one machine: worker processes that end with their work, with their parent, or with an error."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from itertools import islice
from typing import Any

from hubdpo.data.engine import AHEAD, FEWER, In, Out
from hubdpo.errors import ConfigError, DataError

ENDS_IN = 5.0
"""Seconds that the pool has to end its processes."""


class LocalEngine:
    """Processes of this machine, forked where that is the custom, so that they need not load a tokenizer again.

    They run only tasks of hubdpo, which start no threads and touch no accelerator. A single task runs in this process.
    """

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._context: Any = _Context("fork" if sys.platform == "linux" else "spawn")
        self._pool: ProcessPoolExecutor | None = None

    def map(self, function: Callable[[In], Out], tasks: Sequence[In]) -> Iterator[Out]:
        if min(self._workers, len(tasks)) < 2:
            return map(function, tasks)
        if self._pool is None:
            self._start()
        todo = iter(tasks)
        waiting = deque(self._submit(function, task) for task in islice(todo, AHEAD * self._workers))
        return self._results(function, waiting, todo)

    def _results(self, function: Callable[[In], Out], waiting: deque[Future[Out]], todo: Iterator[In]) -> Iterator[Out]:
        while waiting:
            result = self._result(waiting.popleft())
            waiting.extend(self._submit(function, task) for task in islice(todo, 1))
            yield result

    def later(self, function: Callable[[In], Out], task: In) -> Callable[[], Out]:
        if self._pool is None:
            return partial(function, task)
        return partial(self._result, self._submit(function, task))

    def stop(self, *, failed: bool) -> None:
        if failed:
            self._context.kill()
        if self._pool is not None:
            # what is broken is not waited for: the threads of a pool may never end
            self._pool.shutdown(wait=not failed, cancel_futures=True)

    def _start(self) -> None:
        try:
            self._pool = ProcessPoolExecutor(
                self._workers, self._context, initializer=_be_worker, initargs=(os.getpid(),)
            )
            self._pool.submit(os.getpid).result()
        except (OSError, ImportError, RuntimeError) as problem:
            raise ConfigError(
                f"cannot start {self._workers} worker processes: {problem or type(problem).__name__}", hint=FEWER
            ) from None

    def _submit(self, function: Callable[[In], Out], task: In) -> Future[Out]:
        assert self._pool is not None
        # pickled here, where an error is raised: one in the thread that feeds the workers can stop the pool for ever
        call = pickle.dumps((function, task), pickle.HIGHEST_PROTOCOL)
        try:
            return self._pool.submit(_call, call)
        except BrokenProcessPool:
            raise self._died() from None

    def _result(self, future: Future[Out]) -> Out:
        try:
            return future.result()
        except BrokenProcessPool:
            raise self._died() from None

    def _died(self) -> DataError:
        return DataError(f"a worker process {self._context.ended()}; too little memory is the usual cause", hint=FEWER)


def _call(call: bytes) -> Any:
    function, task = pickle.loads(call)  # from our own process
    return function(task)


class _Context:
    """A multiprocessing context that knows its processes. They are daemons, so that none outlives this process."""

    def __init__(self, method: str) -> None:
        self._context = multiprocessing.get_context(method)
        self._processes: list[Any] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    def Process(self, *args: Any, **options: Any) -> Any:
        process = self._context.Process(*args, daemon=True, **options)  # type: ignore[attr-defined]  # of each context
        self._processes.append(process)
        return process

    def kill(self) -> None:
        """End all processes, and wait until they are gone."""
        started = [process for process in self._processes if process.pid is not None]
        for process in started:
            process.kill()
        for process in started:
            process.join()

    def ended(self) -> str:
        """Tell how the process has ended whose end broke the pool, which then ends the others by SIGTERM."""
        started = [process for process in self._processes if process.pid is not None]
        deadline = time.monotonic() + ENDS_IN
        while any(process.exitcode is None for process in started) and time.monotonic() < deadline:
            time.sleep(0.01)
        code = next((process.exitcode for process in started if process.exitcode not in (None, -signal.SIGTERM)), None)
        if code is None:
            return "ended too early"
        return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"


def _be_worker(parent: int) -> None:
    """Leave Ctrl-C to the parent, and end when it is gone, which a killed one cannot ask for."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
