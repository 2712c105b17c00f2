"""The rows that `prepare` dropped: how many for each reason, and where each of them is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import orjson

from hubdpo.artefacts.manifests.manifest import REJECTED_FILE
from hubdpo.artefacts.manifests.prepare import PrepareManifest
from hubdpo.data.prepare.dropped import NEXT_STEPS
from hubdpo.view.page import Asked, Page, PageError
from hubdpo.view.thing import Thing

ROWS = 100
READ_AT_ONCE = 1 << 24


def dropped(asked: Asked, thing: Thing) -> Page:
    """Show the reasons, and the rows dropped for one of them, or from one source, where their list is here."""
    manifest = manifest_of(thing)
    reason = asked.choice("reason", tuple(manifest.funnel.dropped))
    source = asked.choice("source", tuple(source.name for source in manifest.sources))
    lines = thing.keep("dropped", lambda: Lines(thing)) if REJECTED_FILE in thing.snapshot.files else None
    numbers = lines.matching(reason, source) if lines else np.zeros(0, np.int64)
    sources = [each for each in manifest.sources if each.dropped]
    start, before, after = asked.rows(len(numbers), ROWS)
    rows = lines.read(numbers[start : start + ROWS]) if lines else []
    return Page(
        "dropped.html", "Dropped rows",
        {
            "manifest": manifest, "reason": reason, "source": source, "steps": NEXT_STEPS,
            "has_lines": lines is not None, "all_lines": len(lines) if lines else 0, "rows": rows, "start": start,
            "count": len(numbers), "file": REJECTED_FILE, "before": before, "after": after,
            "reasons": {name: name for name in manifest.funnel.dropped}, "sources": sources,
            "names": {each.name: each.name for each in sources},
        },
    )  # fmt: skip


def manifest_of(thing: Thing) -> PrepareManifest:
    if thing.snapshot.prepare is None:
        raise PageError(500, "prepare.json of this dataset cannot be read", "hubdpo prepare SOURCE -o DIR")
    return thing.snapshot.prepare


@dataclass(frozen=True)
class Dropped:
    """A line of `rejected.jsonl`; `fields` says what the row held: name, type and length of each field.

    A line that was damaged has no number, and `detail` says so.
    """

    source: str
    line: int | None
    reason: str
    detail: str
    fields: str


class Lines:
    """`rejected.jsonl`, of which only the places of the lines are in memory: int64 (lines + 1,)."""

    def __init__(self, thing: Thing) -> None:
        self._snapshot = thing.snapshot
        ends = [np.zeros(1, np.int64)]
        with self._open() as stream:
            before = 0
            while block := stream.read(READ_AT_ONCE):
                ends.append(np.flatnonzero(np.frombuffer(block, np.uint8) == 10) + before + 1)
                before += len(block)
        self._ends = np.concatenate(ends)
        if self._ends[-1] < before:  # the last line was cut
            self._ends = np.append(self._ends, before)
        self._kept: dict[bytes, npt.NDArray[np.int64]] = {}

    def _open(self) -> IO[bytes]:
        return self._snapshot.open(REJECTED_FILE)

    def __len__(self) -> int:
        return len(self._ends) - 1

    def matching(self, reason: str, source: str) -> npt.NDArray[np.int64]:
        """Return the numbers of the lines of a reason and a source, "" for any."""
        numbers = np.arange(len(self))
        for name, value in (("reason", reason), ("source", source)):
            if value:
                numbers = np.intersect1d(numbers, self._with(orjson.dumps({name: value})[1:-1]), assume_unique=True)
        return numbers

    def _with(self, member: bytes) -> npt.NDArray[np.int64]:
        """Return the lines that have a member; quotes are escaped within texts, so it can be found by its bytes."""
        if member not in self._kept:
            places: list[int] = []
            with self._open() as stream:
                before, kept = 0, b""
                while block := stream.read(READ_AT_ONCE):
                    block = kept + block
                    at = -1
                    while (at := block.find(member, at + 1)) >= 0:
                        places.append(before + at)
                    kept = block[-len(member) + 1 :]
                    before += len(block) - len(kept)
            lines = np.searchsorted(self._ends, np.array(places, np.int64), "right") - 1
            self._kept[member] = np.unique(lines)
        return self._kept[member]

    def read(self, numbers: npt.NDArray[np.int64]) -> list[Dropped]:
        """Return some lines; of one that was damaged, its number."""
        rows = []
        with self._open() as stream:
            for number in numbers.tolist():
                stream.seek(int(self._ends[number]))
                line = stream.read(int(self._ends[number + 1] - self._ends[number]))
                try:
                    rows.append(_dropped(orjson.loads(line)))
                except (ValueError, KeyError, AttributeError, TypeError):
                    rows.append(Dropped("", None, "", f"line {number + 1:,} of {REJECTED_FILE} is damaged", ""))
        return rows


def _dropped(row: dict[str, Any]) -> Dropped:
    fields = ", ".join(f"{name}: {held}" for name, held in row.get("fields", {}).items())
    return Dropped(str(row.get("source", "")), int(row["line"]), str(row["reason"]), str(row.get("detail", "")), fields)
