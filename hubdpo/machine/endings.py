"""Report the first failure of a run of several processes, and end a process together with its parent.

When one process fails, the others fail because of it: a connection closes, a wait is broken off. So each process writes
its error to a file in a folder of the launching process, which reports the earliest.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hubdpo import errors
from hubdpo.errors import BugElsewhere, HubdpoError, TrainingError

LAUNCHED = "HUBDPO_LAUNCHED"
"""Environment variable of launched processes: the folder for their reports."""
AGENT = "agent"
STOP, ASKABLE = "stop", "askable"
REPORT_BYTES = 64 * 1024
"""Bytes allocated for each report in advance, so that it can be written when the disk is full."""
KILLED_WITHIN = 5.0
"""Seconds in which torchrun ends a process after another failed; it checks every 0.1 s."""
POLL_INTERVAL = 0.5
"""Seconds between two checks of the parent."""


def make_room(folder: Path, processes: int) -> None:
    """Allocate the reports of all processes and of torchrun's agent."""
    for name in (AGENT, *map(str, range(processes))):
        _report(folder, name).write_bytes(b" " * REPORT_BYTES)


def ask_to_stop(folder: Path) -> bool:
    """Ask the launched processes whose reports are in `folder` to stop; return whether they can be asked now."""
    (folder / STOP).touch()
    return (folder / ASKABLE).exists()


def asked_to_stop() -> bool:
    """Whether the launching process asks this one to stop."""
    folder = os.environ.get(LAUNCHED)
    return folder is not None and (Path(folder) / STOP).exists()


@contextmanager
def can_be_asked() -> Iterator[None]:
    """Tell the launching process that this one looks at `asked_to_stop` during the body."""
    askable = Path(os.environ[LAUNCHED]) / ASKABLE
    askable.touch()
    try:
        yield
    finally:
        askable.unlink(missing_ok=True)


def leave_error(problem: HubdpoError, *, name: str | None = None) -> bool:
    """Report an error to the launching process, and return whether there is one."""
    return _leave(name, error=type(problem).__name__, message=problem.message, hint=problem.hint)


def leave_bug(trace: str, *, name: str | None = None) -> bool:
    """Report a bug to the launching process, and return whether there is one."""
    # a failure that another process caused looks like a bug: wait, so that torchrun ends this process first
    if LAUNCHED in os.environ and name is None:
        time.sleep(KILLED_WITHIN)
    return _leave(name, trace=trace)


def leave_code(rank: int, code: int) -> None:
    """Report, from torchrun's agent, which process failed first; a negative `code` is the signal that ended it."""
    _leave(AGENT, rank=rank, code=code)


def first_failure(folder: Path, processes: int, code: int, state: Callable[[], tuple[str, str]]) -> Exception:
    """Return the first error, bug or signal of a run whose torchrun ended with `code`.

    `state` returns what was saved, for the message, and the hint, for a process that could report neither.
    """
    agent, *reports = (_read(folder, name) for name in (AGENT, *map(str, range(processes))))
    rank, code = agent.get("rank"), agent.get("code", code)
    process = f"process {rank + 1} of {processes}" if rank is not None else "torchrun"
    first = min((r for r in [agent, *reports] if r and "code" not in r), key=lambda report: report["at"], default=None)
    number = code - 128 if code > 128 else -code
    by_signal = number > 0 and (rank is None or not reports[rank])
    if by_signal or first is None:
        saved, hint = state()
        ending = f"was {_by(number)}" if by_signal else f"ended with {code}; its output is above"
        problem = TrainingError(f"{process} {ending}; {saved}", hint=hint)
        problem.exit_code = TrainingError.exit_code if by_signal else code
        return problem
    if "trace" in first:
        return BugElsewhere(first["trace"])
    kind: type[HubdpoError] = getattr(errors, first["error"], TrainingError)
    return kind(first["message"], hint=first["hint"])


def end_with_parent(parent: int, end: Callable[[], object] = lambda: os._exit(1)) -> None:
    """Call `end`, in a thread, once the parent of this process is no longer `parent`, even if it was killed."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(POLL_INTERVAL)
        end()

    threading.Thread(target=watch, daemon=True).start()


def _by(number: int) -> str:
    name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
    if name == "SIGKILL":
        return "killed by SIGKILL, usually for lack of memory"
    return f"stopped by {name}"


def _report(folder: str | Path, name: str) -> Path:
    return Path(folder) / f"ended-{name}"


def _leave(name: str | None, **report: object) -> bool:
    folder = os.environ.get(LAUNCHED)
    if folder is None:
        return False
    try:
        # in place, in the space that is already allocated
        with _report(folder, name or os.environ.get("RANK", "0")).open("r+b") as stream:
            stream.write(json.dumps({"at": time.time(), **report}).encode())
    except OSError:  # the launching process was killed
        return False
    return True


def _read(folder: Path, name: str) -> dict[str, Any]:
    try:
        return dict(json.loads(_report(folder, name).read_bytes()))
    except ValueError:  # empty, or cut short
        return {}
