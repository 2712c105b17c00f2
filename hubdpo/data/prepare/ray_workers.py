"""The Ray engine: on the cluster at RAY_ADDRESS, or on a local one that ends with this process."""

from __future__ import annotations

import os
import socket
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Any

from hubdpo import console
from hubdpo.data.prepare.workers import AHEAD, FEWER, In, Out
from hubdpo.errors import ConfigError, MachineError

ANSWERS_IN = 5.0
"""Seconds in which a cluster must answer; Ray itself would try for two minutes and then end this process."""


class RayEngine:
    def __init__(self, workers: int | None) -> None:
        try:
            import ray
        except ImportError:
            raise ConfigError(
                "`--engine ray` needs Ray, which is not installed", hint='pip install "hubdpo[ray]"'
            ) from None
        self._ray: Any = ray
        self._own = not ray.is_initialized()
        if self._own:
            self._start(os.environ.get("RAY_ADDRESS"), workers)

    def map(self, function: Callable[[In], Out], tasks: Sequence[In]) -> Iterator[Out]:
        remote = self._ray.remote(function)
        ahead = AHEAD * max(int(self._ray.cluster_resources().get("CPU", 1)), 1)
        todo = iter(tasks)
        waiting = deque(remote.remote(task) for task in islice(todo, ahead))
        return self._results(remote, waiting, todo)

    def later(self, function: Callable[[In], Out], task: In) -> Callable[[], Out]:
        return partial(self._result, self._ray.remote(function).remote(task))

    def stop(self, *, failed: bool) -> None:
        if self._own:
            self._ray.shutdown()

    def _start(self, address: str | None, workers: int | None) -> None:
        if address:
            console.info(
                "the machines of a cluster must all see the sources and the output: give addresses, such as s3://"
            )
            _reach(address)
        try:
            # the address of a cluster comes from RAY_ADDRESS, as Ray documents; without one it starts on this machine
            self._ray.init(log_to_driver=False, include_dashboard=False, num_cpus=None if address else workers)
        except (OSError, RuntimeError, ValueError, self._ray.exceptions.RayError) as problem:
            first = next(iter(str(problem).splitlines()), type(problem).__name__)
            raise ConfigError(f"Ray cannot start: {first}", hint="--engine local") from None

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
        except self._ray.exceptions.RayError as problem:
            first = next(iter(str(problem).splitlines()), type(problem).__name__)
            raise MachineError(f"a worker of Ray died: {first}", hint=f"--engine local {FEWER}") from None


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
