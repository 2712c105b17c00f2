"""Run code in a process of its own that may take so much memory and time, and no more."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

GB = 1_000_000_000
MOST_MEMORY, MOST_SECONDS = GB, 20
"""Peak of the memory, in bytes, and time of the processor. The clock runs on while others use the machine."""

# A process begins with the peak of the one that started it, which no exec takes away. Tests grow past the limit, so
# one that has nothing in it stands between.
LAUNCHER = """
import json, resource, subprocess, sys
path, memory, seconds, *command = sys.argv[1:]
resource.setrlimit(resource.RLIMIT_CPU, (int(seconds), int(seconds)))
resource.setrlimit(resource.RLIMIT_DATA, (int(memory), int(memory)))
code = subprocess.call([sys.executable, *command])
used = resource.getrusage(resource.RUSAGE_CHILDREN)
with open(path, "w") as file:
    json.dump([code, used.ru_maxrss * 1024, used.ru_utime + used.ru_stime], file)
"""


@dataclass(frozen=True)
class Run:
    code: int
    out: str
    err: str
    memory: int
    seconds: float


def run_limited(
    command: Sequence[str], *, input: str = "", env: Mapping[str, str] | None = None,
    cwd: str | os.PathLike[str] = ".", most_seconds: int = MOST_SECONDS,
) -> Run:  # fmt: skip
    """Run `python COMMAND`. Fail when it takes more than MOST_MEMORY or `most_seconds`; it is ended at twice that."""
    with tempfile.TemporaryDirectory() as folder:
        taken = Path(folder, "taken.json")
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", LAUNCHER, taken, str(4 * MOST_MEMORY), str(2 * most_seconds), *command],
            input=input.encode(), capture_output=True, cwd=cwd,
            env={**os.environ, "OMP_NUM_THREADS": "1", **(env or {})},
        )  # fmt: skip
        out, err = done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace")
        assert done.returncode == 0, err[-2000:]
        code, memory, seconds = json.loads(taken.read_text())
    run = Run(code, out, err, memory, seconds)
    assert run.memory <= MOST_MEMORY, f"{run.memory:,} bytes; {err[-2000:]}"
    assert run.seconds <= most_seconds, f"{run.seconds:.1f} s; {err[-2000:]}"
    return run
