"""What a step of the GPU check finds, written line by line as it is found."""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

RESULTS = "results.jsonl"


@dataclass(frozen=True)
class Check:
    """One step of the check: where it runs and where its findings go."""

    step: str
    out: Path
    """Folder of results.jsonl, the log and the profiles."""
    scratch: Path
    """Folder of this step alone, deleted at the end."""
    rehearse: bool
    """Run on the CPU with tiny shapes."""

    @property
    def device(self) -> str:
        return "cpu" if self.rehearse else "cuda"

    def find(self, **found: object) -> None:
        """Append a finding and force it to the disk, so that nothing is lost when the process is killed."""
        line = json.dumps({"step": self.step, "at": round(time.time()), **found}, default=str) + "\n"
        with (self.out / RESULTS).open("a", encoding="utf-8") as stream:
            stream.write(line)
            stream.flush()
            os.fsync(stream.fileno())
        print(line, end="", flush=True)  # noqa: T201

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Run a part of the step; its failure is a finding, and the next part runs."""
        began = time.monotonic()
        try:
            yield
        except Exception as problem:
            said = f"{type(problem).__name__}: {problem}"[:600]
            trace = traceback.format_exc()[-2500:]
            self.find(part=name, ok=False, error=said, trace=trace, seconds=round(time.monotonic() - began, 1))
        else:
            self.find(part=name, ok=True, seconds=round(time.monotonic() - began, 1))

    def wait(self) -> None:
        """Wait for the kernels that were launched."""
        if self.device == "cuda":
            torch.cuda.synchronize()

    def seconds_of(self, run: Callable[[], object], *, warm: int = 3, times: int = 10) -> float:
        """Return the median seconds of `run`."""
        for _ in range(warm):
            run()
        took = []
        for _ in range(times):
            self.wait()
            began = time.perf_counter()
            run()
            self.wait()
            took.append(time.perf_counter() - began)
        return statistics.median(took)


def read_findings(out: Path) -> list[dict[str, object]]:
    lines = (out / RESULTS).read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def apart(found: torch.Tensor, exact: torch.Tensor) -> float:
    """Return the relative error ‖found − exact‖ / ‖exact‖."""
    return float((found.float() - exact.float()).norm() / (exact.float().norm() + 1e-30))
