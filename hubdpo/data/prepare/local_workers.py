"""The local engine: worker processes that end with their work, with their parent, or at an error."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from hubdpo import console
from hubdpo.data.prepare.workers import AHEAD, FEWER, In, Out
from hubdpo.errors import MachineError
from hubdpo.machine.endings import end_with_parent
from hubdpo.machine.refusals import machine_error

ENDS_IN = 5.0
"""Seconds in which workers must end."""
LOOKS_EVERY = 0.5
"""Seconds between two checks of the workers while a result is awaited."""
WARNS_AFTER, GIVES_UP_AFTER = 4, 24
"""Checks in a row that find a worker stopped. Checks, not seconds: Ctrl-Z stops this process as well."""
SEMAPHORES = "/dev/shm"
"""Folder of the semaphores between processes on Linux; a container may give it little room."""
LEFT_TO_PARENT = tuple(getattr(signal, name) for name in ("SIGINT", "SIGHUP", "SIGQUIT") if hasattr(signal, name))


class LocalEngine:
    """Runs tasks in worker processes; a single task runs in this process.

    On Linux the workers are forked, so that they need not load the tokenizer again. That is safe because tasks start
    no threads and touch no accelerator.
    """

    def __init__(self, workers: int) -> None:
        # a worker of multiprocessing.Pool may start none of its own
        self._workers = 1 if multiprocessing.current_process().daemon else workers
        self._context: Any = _Context("fork" if sys.platform == "linux" else "spawn")
        self._pool: ProcessPoolExecutor | None = None
        self._told: set[int | None] = set()

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
            # do not wait: the threads of a broken pool may never end
            self._pool.shutdown(wait=False, cancel_futures=True)
        self._context.end()

    def _start(self) -> None:
        try:
            self._pool = ProcessPoolExecutor(
                self._workers, self._context, initializer=_be_worker, initargs=(os.getpid(),)
            )
            self._pool.submit(os.getpid).result()
        except (OSError, ImportError, RuntimeError) as problem:
            told = machine_error(problem, [SEMAPHORES])
            why = told.message if told else problem or type(problem).__name__
            raise MachineError(f"cannot start {self._workers} worker processes: {why}", hint=FEWER) from None

    def _submit(self, function: Callable[[In], Out], task: In) -> Future[Out]:
        assert self._pool is not None
        # pickle here, where an error is raised: in the thread that feeds the workers it can hang the pool
        call = pickle.dumps((function, task), pickle.HIGHEST_PROTOCOL)
        try:
            return self._pool.submit(_call, call)
        except BrokenProcessPool:
            raise self._died() from None

    def _result(self, future: Future[Out]) -> Out:
        looks = 0
        while not wait([future], LOOKS_EVERY).done:
            stopped = self._context.stopped()
            looks = looks + 1 if stopped else 0
            if looks == WARNS_AFTER and stopped not in self._told:
                self._told.add(stopped)
                console.warn(f"worker process {stopped} is stopped: `kill -CONT {stopped}` lets it go on")
            if looks == GIVES_UP_AFTER:
                raise MachineError(
                    f"worker process {stopped} is stopped (SIGSTOP) and did not go on in "
                    f"{LOOKS_EVERY * looks:.0f} seconds",
                    hint=f"run the same command again and let nothing stop it, or add {FEWER}",
                )
        try:
            return future.result()
        except BrokenProcessPool:
            raise self._died() from None

    def _died(self) -> MachineError:
        how = self._context.ended()
        return MachineError(f"a worker process {how}; too little memory is the usual cause", hint=FEWER)


def _call(call: bytes) -> Any:
    function, task = pickle.loads(call)  # from our own process
    return function(task)


class _Context:
    """A multiprocessing context that remembers its processes, and makes them daemons so that none outlives us."""

    def __init__(self, method: str) -> None:
        self._context = multiprocessing.get_context(method)
        self._processes: list[Any] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    def Process(self, *args: Any, **options: Any) -> Any:
        process = self._context.Process(*args, daemon=True, **options)  # type: ignore[attr-defined]  # of each context
        self._processes.append(process)
        return process

    def stopped(self) -> int | None:
        """Return the id of a process that is stopped by a signal, None if there is none."""
        return next((process.pid for process in self._started() if _state(process.pid) == "T"), None)

    def end(self) -> None:
        """Wait for the processes to end, and kill those that do not end in time."""
        deadline = time.monotonic() + ENDS_IN
        for process in self._started():
            process.join(max(deadline - time.monotonic(), 0))
        self.kill()

    def kill(self) -> None:
        """Kill all processes, and wait until they are gone."""
        for process in self._started():
            process.kill()
        for process in self._started():
            process.join()

    def ended(self) -> str:
        """Say how the process ended that broke the pool; the pool ends the others with SIGTERM."""
        started = self._started()
        deadline = time.monotonic() + ENDS_IN
        while any(process.exitcode is None for process in started) and time.monotonic() < deadline:
            time.sleep(0.01)
        code = next((process.exitcode for process in started if process.exitcode not in (None, -signal.SIGTERM)), None)
        if code is None:
            return "ended too early"
        return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"

    def _started(self) -> list[Any]:
        return [process for process in self._processes if process.pid is not None]


def _state(process: int) -> str:
    """Return the state of a process as a letter of `ps`, "" if it is unknown."""
    status = Path(f"/proc/{process}/stat")
    try:
        if status.exists():
            return status.read_text(errors="replace").rpartition(")")[2].split()[0]  # the name may hold anything
        done = subprocess.run(["ps", "-o", "state=", "-p", str(process)], capture_output=True, text=True)
    except OSError:
        return ""
    return done.stdout.strip()[:1]


def _be_worker(parent: int) -> None:
    """Ignore the signals that a terminal sends to every process of a command, and end with the parent."""
    for number in LEFT_TO_PARENT:
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # each worker has one core
    end_with_parent(parent)
