"""Run the tasks of prepare in this process, in worker processes, or on a Ray cluster, with the same results.

An engine applies pure functions to tasks; functions, tasks and results must pickle. `map` starts at once and yields the
results in order; errors of tasks are raised there. `later` starts one task and returns a function that waits for its
result. A worker that dies raises MachineError at the next result. `stop` ends the workers, and kills them if the work
has failed.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from functools import partial
from itertools import islice
from typing import Any, TypeVar

from hubdpo import console
from hubdpo.errors import ConfigError, MachineError
from hubdpo.hub.failures import first_line
from hubdpo.machine.endings import end_with_parent
from hubdpo.machine.refusals import machine_error

In = TypeVar("In")
Out = TypeVar("Out")
AHEAD = 4
"""Tasks in flight for each worker: enough to keep it busy, few enough that a failure stops the rest."""
FEWER = "--num-proc 1"
ENDS_IN = 5.0
"""Seconds in which workers must end."""
LOOKS_EVERY = 0.5
"""Seconds between two checks of the workers while a result is awaited."""
WARNS_AFTER, GIVES_UP_AFTER = 4, 24
"""Checks in a row that find a worker stopped. Checks, not seconds: Ctrl-Z stops this process as well."""
SEMAPHORES = "/dev/shm"
"""Folder of the semaphores between processes on Linux; a container may give it little room."""
LEFT_TO_PARENT = tuple(getattr(signal, name) for name in ("SIGINT", "SIGHUP", "SIGQUIT") if hasattr(signal, name))
ANSWERS_IN = 5.0
"""Seconds in which a Ray cluster must answer; Ray itself would try for two minutes and then end this process."""


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def engine_for(name: str, num_proc: int | None, *, fewer: str = FEWER) -> Iterator[Engine]:
    """Start the engine of `--engine`, and end its workers with the body; `fewer` is the option for fewer of them.

    Raise ConfigError if it cannot start, or if Ray is not installed.
    """
    engine: Engine = RayEngine(num_proc) if name == "ray" else LocalEngine(num_proc or cores(), fewer)
    try:
        yield engine
    except BaseException:
        engine.stop(failed=True)
        raise
    engine.stop(failed=False)


def _in_order(
    submit: Callable[[In], Any], result: Callable[[Any], Out], tasks: Sequence[In], ahead: int
) -> Iterator[Out]:
    """Submit the first `ahead` tasks at once, and another with each result; yield the results in order."""
    todo = iter(tasks)
    waiting = deque(map(submit, islice(todo, ahead)))

    def results() -> Iterator[Out]:
        while waiting:
            done = result(waiting.popleft())
            waiting.extend(map(submit, islice(todo, 1)))
            yield done

    return results()


class LocalEngine:
    """Runs tasks in worker processes; a single task runs in this process.

    On Linux the workers are forked, so that they need not load the tokenizer again. That is safe because tasks start
    no threads and touch no accelerator.
    """

    def __init__(self, workers: int, fewer: str = FEWER) -> None:
        self._fewer = fewer
        # a worker of multiprocessing.Pool may start none of its own
        self._workers = 1 if multiprocessing.current_process().daemon else workers
        self._context: Any = _Context("fork" if sys.platform == "linux" else "spawn")
        self._pool: ProcessPoolExecutor | None = None
        self._reported: set[int | None] = set()

    def map(self, function: Callable[[In], Out], tasks: Sequence[In]) -> Iterator[Out]:
        if min(self._workers, len(tasks)) < 2:
            return map(function, tasks)
        if self._pool is None:
            self._start()
        return _in_order(partial(self._submit, function), self._result, tasks, AHEAD * self._workers)

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
            refusal = machine_error(problem, [SEMAPHORES])
            why = refusal.message if refusal else first_line(problem)
            raise MachineError(f"cannot start {self._workers} worker processes: {why}", hint=self._fewer) from None

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
            if looks == WARNS_AFTER and stopped not in self._reported:
                self._reported.add(stopped)
                console.warn(f"worker process {stopped} is stopped: `kill -CONT {stopped}` lets it go on")
            if looks == GIVES_UP_AFTER:
                raise MachineError(
                    f"worker process {stopped} is stopped (SIGSTOP) and did not go on in "
                    f"{LOOKS_EVERY * looks:.0f} seconds",
                    hint=f"run the same command again and let nothing stop it, or add {self._fewer}",
                )
        try:
            return future.result()
        except BrokenProcessPool:
            raise self._died() from None

    def _died(self) -> MachineError:
        how = self._context.ended()
        return MachineError(f"a worker process {how}; too little memory is the usual cause", hint=self._fewer)


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
        import psutil  # needed only where a worker takes long

        for process in self._started():
            with suppress(psutil.Error):
                if psutil.Process(process.pid).status() == psutil.STATUS_STOPPED:
                    return process.pid  # type: ignore[no-any-return]
        return None

    def end(self) -> None:
        """Wait for the processes to end, and kill those that do not end in time."""
        deadline = time.monotonic() + ENDS_IN
        for process in self._started():
            process.join(max(deadline - time.monotonic(), 0))
        self.kill()

    def kill(self) -> None:
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


def _be_worker(parent: int) -> None:
    """Ignore the signals that a terminal sends to every process of a command, and end with the parent."""
    for number in LEFT_TO_PARENT:
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # each worker has one core
    end_with_parent(parent)


class RayEngine:
    """Runs tasks on the cluster at RAY_ADDRESS, or on a local one that ends with this process."""

    def __init__(self, workers: int | None) -> None:
        try:
            import ray
        except ImportError:
            raise ConfigError(
                "`--engine ray` needs Ray, which is not installed", hint='pip install "hubdpo[ray]"'
            ) from None
        self._ray: Any = ray
        self._own = not ray.is_initialized()
        if not self._own:
            return
        if address := os.environ.get("RAY_ADDRESS"):
            console.info(
                "the machines of a cluster must all see the sources and the output: give addresses, such as s3://"
            )
            _reach(address)
        try:
            # the address of a cluster comes from RAY_ADDRESS, as Ray documents; without one it starts on this machine
            ray.init(log_to_driver=False, include_dashboard=False, num_cpus=None if address else workers)
        except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as problem:
            raise ConfigError(f"Ray cannot start: {first_line(problem)}", hint="--engine local") from None

    def map(self, function: Callable[[In], Out], tasks: Sequence[In]) -> Iterator[Out]:
        ahead = AHEAD * max(int(self._ray.cluster_resources().get("CPU", 1)), 1)
        return _in_order(self._ray.remote(function).remote, self._result, tasks, ahead)

    def later(self, function: Callable[[In], Out], task: In) -> Callable[[], Out]:
        return partial(self._result, self._ray.remote(function).remote(task))

    def stop(self, *, failed: bool) -> None:
        if self._own:
            self._ray.shutdown()

    def _result(self, reference: Any) -> Any:
        try:
            return self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as problem:
            raise problem.cause from None
        except self._ray.exceptions.RayError as problem:
            raise MachineError(f"a worker of Ray died: {first_line(problem)}", hint=f"--engine local {FEWER}") from None


Engine = LocalEngine | RayEngine


def _reach(address: str) -> None:
    """Raise ConfigError if nothing listens at HOST:PORT. Words such as `auto` are left to Ray."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdigit():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWERS_IN).close()
    except OSError as problem:
        raise ConfigError(
            f"the Ray cluster at RAY_ADDRESS={address} does not answer: {problem}",
            hint="unset RAY_ADDRESS, or start the cluster with `ray start --head`",
        ) from None
