"""How the processes of one run end: each leaves word for the one that launched it, which alone tells what was first.

Where one process fails, the others meet errors of its making: a connection that closed, a wait that was broken off.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hubdpo import errors
from hubdpo.errors import BugElsewhere, HubdpoError, TrainingError

LAUNCHED = "HUBDPO_LAUNCHED"
"""Names, in the environment of a process that was launched, the folder in which it leaves word."""
AGENT = "agent"
ROOM = 64 * 1024
"""Bytes kept for the word of each process, so that a disk which has filled up takes it."""
IS_ENDED_IN = 5.0
"""Seconds in which torchrun ends a process after another one failed: it looks every 0.1 s."""


def make_room(folder: Path, processes: int) -> None:
    for name in (AGENT, *map(str, range(processes))):
        _place(folder, name).write_bytes(b" " * ROOM)


def leave_error(problem: HubdpoError, *, name: str | None = None) -> bool:
    """Leave word of an error, and return whether another process tells it."""
    return _leave(name, error=type(problem).__name__, message=problem.message, hint=problem.hint)


def leave_bug(trace: str, *, name: str | None = None) -> bool:
    """Leave word of a bug, and return whether another process tells it.

    An error that another process caused looks like a bug: who caused it is told, and this process ended meanwhile.
    """
    if LAUNCHED in os.environ and name is None:
        time.sleep(IS_ENDED_IN)
    return _leave(name, trace=trace)


def leave_code(rank: int, code: int) -> None:
    """Leave word, as torchrun, of the process that failed first: below 0, `code` is the signal that ended it."""
    _leave(AGENT, rank=rank, code=code)


def first_failure(folder: Path, processes: int, code: int, kept: Callable[[], tuple[str, str]]) -> Exception:
    """Return why a run failed whose torchrun ended with `code`: the error, the bug or the signal that was first.

    `kept` returns words that end the message, and the hint, for a process that could say neither.
    """
    words = {name: _read(folder, name) for name in (AGENT, *map(str, range(processes)))}
    agent = words[AGENT]
    rank, code = agent.get("rank"), agent.get("code", code)
    who = f"process {rank + 1} of {processes}" if rank is not None else "torchrun"
    told = sorted((word for word in words.values() if word and "code" not in word), key=lambda word: word["at"])
    number = code - 128 if code > 128 else -code
    by_signal = number > 0 and (rank is None or not words[str(rank)])
    if by_signal or not told:
        left, on = kept()
        how = f"was {_by(number)}" if by_signal else f"ended with {code}; what it said is above"
        problem = TrainingError(f"{who} {how}; {left}", hint=on)
        problem.exit_code = TrainingError.exit_code if by_signal else code
        return problem
    if "trace" in told[0]:
        return BugElsewhere(told[0]["trace"])
    kind: type[HubdpoError] = getattr(errors, told[0]["error"], TrainingError)
    return kind(told[0]["message"], hint=told[0]["hint"])


def _by(number: int) -> str:
    name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
    if name == "SIGKILL":
        return "killed by SIGKILL; too little memory is the usual cause"
    return f"stopped by {name}"


def _place(folder: str | Path, name: str) -> Path:
    return Path(folder) / f"ended-{name}"


def _leave(name: str | None, **word: Any) -> bool:
    folder = os.environ.get(LAUNCHED)
    if folder is None:
        return False
    text = json.dumps({"at": time.time(), **word})
    try:
        # in place, in the room that was kept for it
        with _place(folder, name or os.environ.get("RANK", "0")).open("r+b") as stream:
            stream.write(text.encode())
    except OSError:  # the one that launched this was killed
        return False
    return True


def _read(folder: Path, name: str) -> dict[str, Any]:
    try:
        word = json.loads(_place(folder, name).read_text(encoding="utf-8"))
    except ValueError:  # nothing but room, or cut short
        return {}
    return dict(word)
