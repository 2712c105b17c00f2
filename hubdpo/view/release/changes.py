"""What differs between two snapshots of the same kind, file by file, with the lines of texts that are not too long."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from typing import NamedTuple

from hubdpo.artefacts.formats.bounded import shortened
from hubdpo.errors import ArtefactError
from hubdpo.hub.snapshot import Snapshot

LARGEST, MOST_LINES = 200_000, 2_000
"""Bytes and lines of a file whose lines are compared: difflib takes the time of the length squared."""
MOST_FILES, MOST_SHOWN, LONGEST = 500, 3_000, 2_000
"""Files that are listed, lines of differences on a page, and characters of a line."""


class Line(NamedTuple):
    kind: str
    """`added`, `removed`, `place` for the place of what follows, or "" for a line that both have."""
    text: str


@dataclass(frozen=True)
class FileChange:
    """A file that differs; `before` and `after` are sizes in bytes, None where it is missing."""

    path: str
    before: int | None
    after: int | None
    lines: list[Line] = field(default_factory=list)
    note: str = ""
    """Why no lines are shown."""

    @property
    def state(self) -> str:
        return state_of(self.before, self.after)


@dataclass(frozen=True)
class Changes:
    files: list[FileChange]
    count: int
    """All files that differ, of which the first are in `files`."""


def state_of(before: object, after: object) -> str:
    return "added" if before is None else "removed" if after is None else "changed"


def changes_between(old: Snapshot | None, new: Snapshot) -> Changes:
    """Compare two snapshots; without an old one every file is new."""
    there, here = old.files if old else {}, new.files
    names = [name for name in sorted({*there, *here}) if not (old and _is_same(old, new, name))]
    left = MOST_SHOWN
    files: list[FileChange] = []
    for name in names[:MOST_FILES]:
        sizes = there.get(name), here.get(name)
        lines, note = _lines(old, new, name) if left > 0 else ([], "not shown: there are many changes")
        if len(lines) > left:
            lines, note = lines[:left], "cut here: there are many changes"
        left -= len(lines)
        files.append(FileChange(name, *sizes, lines, note))
    return Changes(files, len(names))


def lines_of_diff(text: str) -> list[Line]:
    """Sort the lines of a unified diff by what they say."""
    kinds = {"+": "added", "-": "removed", "@": "place"}
    return [
        Line("place" if line.startswith(("+++ ", "--- ")) else kinds.get(line[:1], ""), shortened(line, LONGEST))
        for line in text.splitlines()
    ]


def _is_same(old: Snapshot, new: Snapshot, name: str) -> bool:
    return name in old.files and name in new.files and old.digest(name) == new.digest(name)


def _lines(old: Snapshot | None, new: Snapshot, name: str) -> tuple[list[Line], str]:
    """Return the differing lines of a file with three lines around them, or why there are none."""
    texts: list[list[str]] = []
    for side in (old, new):
        if side is None or name not in side.files:
            texts.append([])
            continue
        if side.files[name] > LARGEST:
            return [], "too large to be compared by lines"
        try:
            with side.open(name) as stream:
                data = stream.read()
        except ArtefactError as problem:
            return [], problem.message
        if b"\0" in data:
            return [], "not text"
        texts.append(data.decode("utf-8", "replace").splitlines())
    if max(map(len, texts)) > MOST_LINES:
        return [], f"more than {MOST_LINES:,} lines"
    diff = list(difflib.unified_diff(texts[0], texts[1], lineterm=""))[2:]
    return lines_of_diff("\n".join(diff)), "" if diff else "the ends of lines differ, or nothing that can be seen"
