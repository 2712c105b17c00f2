"""Run hubdpo on this machine's GPU: each step in a process with a limit of its own, results written as they come.

    python -m tests.gpu.check --out gpu-check               # everything, about ten minutes
    python -m tests.gpu.check --out gpu-check --rehearse    # the same steps on the CPU, with tiny shapes
    python -m tests.gpu.check --out gpu-check --only kernels,bench

`results.jsonl` in the folder has a line for every finding, `log.txt` what the steps printed, `profile-*.json` the
kernels of a step by time. The table printed at the end is what a person wants to know. Correctness comes first and
together; the timings run alone.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import psutil
import torch

from tests.gpu.findings import RESULTS, Check, read_findings

ROOT = Path(__file__).parents[2]
SLOWER = 5
"""Times the limit of a step in a rehearsal, on a machine with few cores."""


class Step(NamedTuple):
    seconds: int
    """Limit on a GPU."""
    function: str
    together: bool = False
    """Whether it runs beside its neighbours."""


STEPS = {
    "kernels": Step(90, "tests.gpu.kernels:run"),
    "parity": Step(100, "tests.gpu.parity:run", together=True),
    "road": Step(200, "tests.gpu.road:run", together=True),
    "resume": Step(200, "tests.gpu.road:run_resume", together=True),
    "options": Step(200, "tests.gpu.road:run_options", together=True),
    "demo": Step(150, "tests.gpu.road:demo", together=True),
    "bench": Step(270, "tests.gpu.bench:run"),
    "7b": Step(200, "tests.gpu.road:run_7b"),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=10.0, help="after which no step is left running")
    parser.add_argument("--rehearse", action="store_true", help="on the CPU, with tiny shapes")
    parser.add_argument("--only", default=",".join(STEPS), help="steps, separated by commas")
    parser.add_argument("--step", choices=list(STEPS), help="run one step in this process")
    parser.add_argument("--scratch", type=Path, help="folder of a step that --step runs")
    args = parser.parse_args()
    if not args.rehearse and not torch.cuda.is_available():
        parser.error("no CUDA device is found; --rehearse runs the same steps on the CPU")
    try:
        args.out.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        parser.error(f"--out: {problem}")
    if args.step:
        scratch = args.scratch or Path(tempfile.mkdtemp())
        return run_step(Check(args.step, args.out.resolve(), scratch / args.step, args.rehearse))
    wanted = [name.strip() for name in args.only.split(",")]
    if unknown := set(wanted) - STEPS.keys():
        names = ", ".join(f"`{name}`" for name in sorted(unknown))
        parser.error(f"no step is called {names}; there are {', '.join(STEPS)}")
    return Runner(args.out.resolve(), time.monotonic() + 60 * args.minutes, args.rehearse).run(wanted)


def run_step(check: Check) -> int:
    check.scratch.mkdir(parents=True, exist_ok=True)
    module, _, function = STEPS[check.step].function.partition(":")
    with check.part("the whole step"):
        getattr(importlib.import_module(module), function)(check)
    return 0


class Runner:
    """Starts the steps, and stops those that run over their limit or over the end of the check."""

    def __init__(self, out: Path, deadline: float, rehearse: bool) -> None:
        self.out, self.deadline, self.rehearse = out, deadline, rehearse
        self.scratch = Path(tempfile.mkdtemp(prefix="hubdpo-gpu-"))
        self.report = Check("all", out, self.scratch, rehearse)

    def run(self, wanted: list[str]) -> int:
        for old in (self.out / RESULTS, self.out / "log.txt", *self.out.glob("profile-*.json")):
            old.unlink(missing_ok=True)
        self.report.find(started=time.ctime(), steps=wanted, rehearse=self.rehearse)
        steps = [name for name in STEPS if name in wanted]
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C, so that the steps end as well
        try:
            while steps and time.monotonic() < self.deadline:
                group = steps[:1]
                if not self.rehearse and STEPS[steps[0]].together:
                    group = [name for name in steps if STEPS[name].together]
                steps = [name for name in steps if name not in group]
                self._wait_for({name: self._start(name) for name in group})
            for name in steps:
                self.report.find(ended=name, ok=False, error="no time was left")
        except KeyboardInterrupt:
            self.report.find(ended="the check", ok=False, error="stopped by a signal")
        finally:
            shutil.rmtree(self.scratch, ignore_errors=True)
        return summarise(self.out)

    def _start(self, name: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "tests.gpu.check", "--step", name, "--out", str(self.out)]
        command += ["--scratch", str(self.scratch), *(["--rehearse"] if self.rehearse else [])]
        environment = {**os.environ, "TOKENIZERS_PARALLELISM": "false", "HUBDPO_CACHE": str(self.scratch / "cache")}
        if self.rehearse:
            environment |= {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
        with (self.out / "log.txt").open("ab") as log:
            return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True)

    def _wait_for(self, running: dict[str, subprocess.Popen[bytes]]) -> None:
        try:
            self._watch(running)
        finally:
            for process in running.values():
                kill_with_children(process)

    def _watch(self, running: dict[str, subprocess.Popen[bytes]]) -> None:
        began = time.monotonic()
        while running:
            for name, process in list(running.items()):
                limit = min(began + STEPS[name].seconds * (SLOWER if self.rehearse else 1), self.deadline)
                seconds = round(time.monotonic() - began, 1)
                if process.poll() is not None:
                    self.report.find(ended=name, ok=process.returncode == 0, rc=process.returncode, seconds=seconds)
                elif time.monotonic() > limit:
                    kill_with_children(process)
                    self.report.find(ended=name, ok=False, error="stopped at its limit", seconds=seconds)
                else:
                    continue
                del running[name]
            time.sleep(0.1)


def kill_with_children(process: subprocess.Popen[bytes]) -> None:
    """Kill a step and the commands that it runs, which would keep the GPU."""
    with contextlib.suppress(psutil.NoSuchProcess):
        for child in psutil.Process(process.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
    process.kill()
    process.wait()


def summarise(out: Path) -> int:
    """Print what failed and the arms of the benchmark; return 1 when anything failed."""
    found = read_findings(out)
    failed = [line for line in found if line.get("ok") is False]
    print("\n== failed ==" if failed else "\nnothing failed")  # noqa: T201
    for line in failed:
        keys = ("part", "arm", "command", "ended", "attention", "parity", "options")
        name = next((f"{key} {line[key]}" for key in keys if key in line), "")
        print(f"{line['step']:8} {name}: {str(line.get('error') or line.get('said') or line)[-700:]}")  # noqa: T201
    arms = [line for line in found if line.get("arm") and line.get("ok")]
    stock = next((float(str(line["seconds"])) for line in arms if line["arm"] == "TRL defaults"), None)
    for line in arms:
        ratio = f"{stock / float(str(line['seconds'])):5.2f}x" if stock else ""
        print(  # noqa: T201
            f"{str(line['arm'])[:60]:60} {line['seconds']:8} s {line['pairs_per_s']:7} pairs/s {ratio} "
            f"{line['tflops']:6} TFLOP/s  peak {line['peak_gb']} GB  loss {line['loss']:.5f}"
        )
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
