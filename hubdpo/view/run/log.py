"""The lines of a metrics.jsonl as columns of numbers; a file that grows is read on from where it ended."""

from __future__ import annotations

import threading
from array import array
from bisect import bisect_left
from typing import IO, NamedTuple

import numpy as np
import numpy.typing as npt
import orjson

from hubdpo.artefacts.formats.bounded import parse_json
from hubdpo.artefacts.manifests.manifest import METRICS_FILE
from hubdpo.errors import ArtefactError
from hubdpo.hub.snapshot import Snapshot

LARGEST = 256_000_000
"""Bytes of a file that is read: some 300,000 lines. A file in a repo may come from anybody."""
MOST_COLUMNS, LONGEST_NAME = 300, 120
MOST_INT = 2**63
STEP, SECONDS, TOKENS, SPEED = "step", "seconds", "num_tokens", "tokens/s"

Places = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class Series(NamedTuple):
    """The values of a metric, and the steps that they are of."""

    steps: Floats
    values: Floats


class Log:
    """What is read so far. `damaged` counts lines that are no JSON objects with a step.

    `too_many` tells that there are more metrics than are kept, or names of more than LONGEST_NAME characters.
    """

    def __init__(self) -> None:
        self.count = self.damaged = 0
        self.too_many = False
        self._read = 0
        self._columns: dict[str, tuple[array[int], array[float]]] = {}

    @property
    def names(self) -> list[str]:
        return [*self._columns]

    def read_on(self, stream: IO[bytes]) -> None:
        """Read the lines that were added. The last one may be half written: it waits for its end."""
        stream.seek(self._read)
        for text in stream:
            if not text.endswith(b"\n"):
                break
            self._read += len(text)
            self._take(text)

    def _take(self, text: bytes) -> None:
        try:
            line = orjson.loads(text)
        except ValueError:
            try:
                line = parse_json(text, ours=True)  # NaN and infinity are no JSON
            except ValueError:
                line = None
        if not isinstance(line, dict) or not _is_step(line.get(STEP)):
            self.damaged += bool(text.strip())
            return
        for name, value in line.items():
            if _is_number(value) and (name in self._columns or self._is_new(name)):
                lines, values = self._columns[name]
                lines.append(self.count)
                values.append(value)
        self.count += 1

    def _is_new(self, name: str) -> bool:
        if len(self._columns) >= MOST_COLUMNS or len(name) > LONGEST_NAME:
            self.too_many = True
            return False
        self._columns[name] = (array("q"), array("d"))
        return True

    def line(self, number: int) -> dict[str, float]:
        """Return the numbers of a line by name."""
        return {name: value for name in self._columns if (value := self.value(name, number)) is not None}

    def value(self, name: str, number: int) -> float | None:
        lines, values = self._columns.get(name, ((), ()))
        at = bisect_left(lines, number)
        return values[at] if at < len(lines) and lines[at] == number else None

    def lines_with(self, name: str) -> array[int]:
        """Return the numbers of the lines that have a metric, in order."""
        return self._columns[name][0] if name in self._columns else array("q")

    def series(self, name: str) -> Series:
        """Return a metric; of a step that was logged twice the last value, as a resumed run logs it again."""
        if name == SPEED:
            return self._speeds()
        lines, values = self.column(name)
        steps = self._steps_of(lines)
        if (np.diff(steps) <= 0).any():
            steps, last = np.unique(steps[::-1], return_index=True)
            values = values[::-1][last]
        return Series(steps, values)

    def column(self, name: str) -> tuple[Places, Floats]:
        """Return copies of the numbers of the lines that have a metric, and of its values.

        Another request may be adding lines.
        """
        lines, values = self._columns.get(name, (array("q"), array("d")))
        count = len(values)  # the shorter one meanwhile
        return np.array(lines, dtype=np.int64)[:count], np.array(values, dtype=np.float64)[:count]

    def _steps_of(self, lines: Places) -> Floats:
        return self.column(STEP)[1][lines]  # every line has a step

    @property
    def step(self) -> int:
        """The last step that was logged."""
        return int(max(self._columns[STEP][1], default=0)) if STEP in self._columns else 0

    def last(self, name: str) -> float | None:
        _, values = self._columns.get(name, ((), ()))
        return values[-1] if values else None

    def _speeds(self) -> Series:
        """Return tokens per second since the line before; evaluations in between do not count as time."""
        with_tokens, tokens = self.column(TOKENS)
        with_seconds, seconds = self.column(SECONDS)
        lines, one, other = np.intersect1d(with_tokens, with_seconds, assume_unique=True, return_indices=True)
        evaluated, runtimes = self.column("eval_runtime")
        spent = np.concatenate([[0.0], np.cumsum(runtimes)])[np.searchsorted(evaluated, lines)]
        took, more = np.diff(seconds[other]), np.diff(tokens[one])
        took_training = took - np.diff(spent)
        fits = (took > 0) & (more > 0) & (took_training > 0)  # a run that earlier versions resumed counts from 0 again
        return Series(self._steps_of(lines[1:][fits]), more[fits] / took_training[fits])

    def seconds_a_step(self, *, since: int = 0) -> float | None:
        """Return the time a step has taken since step `since`, evaluations included; None if unknown.

        A run that earlier versions resumed counted its seconds from 0 again: there it is the time since then.
        """
        lines = self.lines_with(SECONDS)
        if not lines:
            return None
        seconds = self._columns[SECONDS][1]
        first = max((at for at in range(1, len(lines)) if seconds[at] < seconds[at - 1]), default=0)
        while first < len(lines) - 1 and (self.value(STEP, lines[first]) or 0.0) < since:
            first += 1
        steps = [self.value(STEP, lines[at]) or 0.0 for at in (first, -1)]
        if steps[1] > steps[0]:
            return (seconds[-1] - seconds[first]) / (steps[1] - steps[0])
        return seconds[-1] / steps[1] if steps[1] and not first else None


def _is_number(value: object) -> bool:
    is_small = isinstance(value, int) and not isinstance(value, bool) and abs(value) < MOST_INT
    return is_small or isinstance(value, float)


def _is_step(value: object) -> bool:
    return _is_number(value) and 0 <= value < MOST_INT  # type: ignore[operator]  # neither NaN nor infinite


class LogFile:
    """The log of a thing as it is now; a file in a folder is read on, and anew once it is another file."""

    def __init__(self) -> None:
        self._log = Log()
        self._file: tuple[int, int] | None = None
        self._guard = threading.Lock()

    def now(self, snapshot: Snapshot) -> Log:
        """Raise ArtefactError for a file that is too large."""
        size = snapshot.files.get(METRICS_FILE)
        if size is None:
            return Log()
        if size > LARGEST:
            raise ArtefactError(f"`{METRICS_FILE}` has {size:,} bytes, and at most {LARGEST:,} are read")
        with self._guard:
            path = snapshot.path(METRICS_FILE)
            if path is None:
                if self._file is None:
                    self._log, self._file = Log(), (0, 0)
                    with snapshot.open(METRICS_FILE) as stream:
                        self._log.read_on(stream)
                return self._log
            with path.open("rb") as stream:
                status = path.stat()
                if self._file is None or status.st_ino != self._file[0] or status.st_size < self._file[1]:
                    self._log = Log()  # a resumed run has written it anew
                self._file = (status.st_ino, status.st_size)
                self._log.read_on(stream)
            return self._log
