"""stdout and stderr that may be closed, full or of few letters: the work goes on, and what was lost is told at the end.

Python alone ends in a traceback, in exit code 120, or writes into a file that got the number of a closed stream.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hubdpo import console
from hubdpo.errors import MachineError


class _Lossy(io.FileIO):
    """A file that takes everything; from the first write that fails, `lost` holds its error and nothing is written."""

    lost: OSError | None = None

    def write(self, data: Any) -> int:
        view = memoryview(data)
        if self.lost is None:
            try:
                return super().write(view) or 0
            except BlockingIOError:
                raise
            except OSError as problem:
                self.lost = problem
        return view.nbytes


@contextmanager
def lossy_streams() -> Iterator[None]:
    """Let the body write to stdout and stderr whatever becomes of them; exit with 9 where only its result was lost."""
    closed = _occupy_closed()
    out, talk = _lossy(sys.stdout, 1), _lossy(sys.stderr, 2)
    sys.stdout, sys.stderr = out or sys.stdout, talk or sys.stderr
    try:
        yield
    except SystemExit as end:
        if end.code in (0, None):
            _tell_lost(out, is_closed=1 in closed)
        raise
    else:
        _tell_lost(out, is_closed=1 in closed)
    finally:
        for stream in (out, talk):
            if stream is not None:
                stream.flush()


def _tell_lost(out: Any, *, is_closed: bool) -> None:
    """Raise SystemExit when what was written to stdout did not arrive; a reader that left needs no word."""
    if out is None:
        return
    out.flush()
    lost = out.buffer.raw.lost
    if lost is None:
        return
    if not isinstance(lost, BrokenPipeError):
        console.error(f"the result cannot be written to stdout: {'it is closed' if is_closed else lost.strerror}")
    raise SystemExit(MachineError.exit_code)


def _occupy_closed() -> set[int]:
    """Open the null device for reading at each closed standard stream, so that no file of ours gets its number."""
    closed = set()
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            closed.add(number)
            os.open(os.devnull, os.O_RDONLY)  # takes the lowest free number, and a write to it fails
    return closed


def _lossy(stream: Any, number: int) -> Any:
    """Return a text stream over what `stream` writes to, None where that is no stream of the process itself."""
    try:
        if stream is not None and stream.fileno() != number:
            return None
    except (OSError, ValueError):
        return None
    encoding = getattr(stream, "encoding", None) or "utf-8"
    raw = _Lossy(number, "w", closefd=False)
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding=encoding, errors="backslashreplace", line_buffering=True)
