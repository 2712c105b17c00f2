"""`journal.jsonl` of a run folder: when a command began to train, what it warned of, and how it ended.

It stays on this machine, because a warning may name its folders.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from hubdpo import console
from hubdpo.artefacts.formats.bounded import parse_json, read_text, shortened
from hubdpo.artefacts.manifests.manifest import JOURNAL_FILE
from hubdpo.errors import HubdpoError, Stopped

Kind = Literal["began", "warning", "failed", "stopped"]
MOST_LINES, LONGEST = 500, 2_000
"""Lines that are kept of all the starts of a run, and characters of a text in them."""


class Entry(NamedTuple):
    """`text` is a sentence; `hint` is what to type next."""

    kind: Kind
    text: str
    hint: str = ""


class Journal:
    """Keeps entries in memory until the folder is opened, as a run that is refused leaves nothing there."""

    def __init__(self) -> None:
        self._waiting: list[Entry] = []
        self._path: Path | None = None
        self._lines = 0

    def open(self, folder: Path, text: str) -> None:
        """Write what was noted before, and from now on each entry at once."""
        self._path = folder / JOURNAL_FILE
        self._lines = len(read_journal(folder))
        waiting, self._waiting = self._waiting, []
        for entry in (Entry("began", text), *waiting):
            self.note(entry)

    def note(self, entry: Entry) -> None:
        if self._path is None:
            self._waiting.append(entry)
        elif self._lines < MOST_LINES:
            self._lines += 1
            cut = {"kind": entry.kind, "text": shortened(entry.text, LONGEST), "hint": shortened(entry.hint, LONGEST)}
            # what is on a full disk is told by the command itself
            with contextlib.suppress(OSError), self._path.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(cut, ensure_ascii=False) + "\n")

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """Note the warnings of the body, and the error that ends it."""
        with console.written_as(listener=lambda line: self.note(Entry("warning", line))):
            try:
                yield
            except HubdpoError as problem:
                self.note(Entry("failed", problem.message, problem.hint or ""))
                raise
            except KeyboardInterrupt as problem:
                self.note(Entry("stopped", "it was stopped", problem.hint if isinstance(problem, Stopped) else ""))
                raise
            except Exception as problem:
                self.note(Entry("failed", f"{type(problem).__name__}: {problem}"))
                raise


def read_journal(folder: Path) -> list[Entry]:
    """Return the entries, oldest first; without a journal, and after a line that was cut short, there are none."""
    entries: list[Entry] = []
    with contextlib.suppress(FileNotFoundError, ValueError, KeyError, TypeError):
        for text in read_text(folder / JOURNAL_FILE).splitlines():
            line = parse_json(text)
            entries.append(Entry(line["kind"], str(line["text"]), str(line["hint"])))
    return entries
