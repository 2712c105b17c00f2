"""Keep working when stdout or stderr is closed, full or has a small character set, and report lost output at the end.

Python by itself ends with a traceback or exit code 120, or writes to a file that got the number of a closed stream.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from hubdpo import console
from hubdpo.errors import MachineError

if TYPE_CHECKING:
    from typing_extensions import Buffer


class _Lossy(io.FileIO):
    """A file that accepts all writes. After a failed write, `lost` holds its error and nothing more is written."""

    lost: OSError | None = None

    def write(self, data: Buffer) -> int:
        view = memoryview(data)
        if self.lost is None:
            try:
                return super().write(view) or 0
            except BlockingIOError:
                raise
            except OSError as problem:
                self.lost = problem
        return view.nbytes


class LossyText(io.TextIOWrapper):
    """Text over a lossy file; characters that the encoding lacks are escaped."""

    def __init__(self, raw: _Lossy, encoding: str) -> None:
        super().__init__(io.BufferedWriter(raw), encoding=encoding, errors="backslashreplace", line_buffering=True)
        self.raw = raw


@contextmanager
def lossy_streams() -> Iterator[None]:
    """Let the body write to stdout and stderr without errors; exit with 9 if the result on stdout was lost."""
    closed = _occupy_closed()
    out, err = _lossy(sys.stdout, 1), _lossy(sys.stderr, 2)
    sys.stdout, sys.stderr = out or sys.stdout, err or sys.stderr
    try:
        yield
    except SystemExit as end:
        if end.code in (0, None):
            _report_lost(out, is_closed=1 in closed)
        raise
    else:
        _report_lost(out, is_closed=1 in closed)
    finally:
        for stream in (out, err):
            if stream is not None:
                stream.flush()


def _report_lost(out: LossyText | None, *, is_closed: bool) -> None:
    """Raise SystemExit if output was lost, with a message unless the reader has closed its end of a pipe."""
    if out is None:
        return
    out.flush()
    lost = out.raw.lost
    if lost is None:
        return
    if not isinstance(lost, BrokenPipeError):
        console.error(f"the result cannot be written to stdout: {'it is closed' if is_closed else lost.strerror}")
    raise SystemExit(MachineError.exit_code)


def _occupy_closed() -> set[int]:
    """Open the null device for each closed standard stream, so that no other file gets its number."""
    closed = set()
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            closed.add(number)
            os.open(os.devnull, os.O_RDONLY)  # gets the lowest free number, and writes to it fail
    return closed


def _lossy(stream: TextIO | None, number: int) -> LossyText | None:
    """Return a lossy text stream with the same destination, or None if `stream` does not write to file `number`."""
    try:
        if stream is not None and stream.fileno() != number:
            return None
    except (OSError, ValueError):
        return None
    encoding = getattr(stream, "encoding", None) or "utf-8"
    raw = _Lossy(number, "w", closefd=False)
    return LossyText(raw, encoding)
