"""Run code in a process of its own that may take so much memory and time, and no more."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

GB = 1_000_000_000
MOST_MEMORY, MOST_SECONDS = GB, 20
"""Peak of the memory, in bytes, and time of the processor. The clock runs on while others use the machine."""


@dataclass(frozen=True)
class Run:
    code: int
    out: str
    err: str
    memory: int
    seconds: float


def run_limited(
    command: Sequence[str], *, input: str = "", env: Mapping[str, str] | None = None, cwd: str | os.PathLike[str] = "."
) -> Run:
    """Run `python COMMAND`. Fail when it takes more than MOST_MEMORY or MOST_SECONDS, at twice of which it is ended."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_CPU, (2 * MOST_SECONDS, 2 * MOST_SECONDS))
        resource.setrlimit(resource.RLIMIT_DATA, (4 * MOST_MEMORY, 4 * MOST_MEMORY))

    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        given.write(input.encode())
        given.seek(0)
        process = subprocess.Popen(
            [sys.executable, *command], stdin=given, stdout=out, stderr=err, preexec_fn=limit, cwd=cwd,
            env={**os.environ, "OMP_NUM_THREADS": "1", **(env or {})},
        )  # fmt: skip
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        said = []
        for stream in (out, err):
            stream.seek(0)
            said.append(stream.read().decode("utf-8", "replace"))
    run = Run(process.returncode, said[0], said[1], used.ru_maxrss * 1024, used.ru_utime + used.ru_stime)
    assert run.memory <= MOST_MEMORY, f"{run.memory:,} bytes; {said[1][-2000:]}"
    assert run.seconds <= MOST_SECONDS, f"{run.seconds:.1f} s; {said[1][-2000:]}"
    return run
