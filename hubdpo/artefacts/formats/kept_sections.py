"""Parts of a card that are not generated: what people wrote between markers, and the list of releases.

A marker stands alone on its line, outside code blocks: rows that are quoted in a card cannot make one. What is between
`<!-- hubdpo:keep -->` (or `<!-- hubdpo:keep NAME -->`) and `<!-- /hubdpo:keep -->` goes from release to release; it is
put back at the end of the part whose heading it stood under, or of the card when nothing generated followed it or the
heading is gone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from hubdpo.artefacts.formats.bounded import read_text
from hubdpo.artefacts.formats.front_matter import lines_of_front
from hubdpo.errors import ArtefactError

KEEP, CHANGES = "keep", "changes"
NOTE = "<!-- Write here by hand: what stands between these two markers stays in the card of the next release. -->"
_OPEN = re.compile(r"<!-- hubdpo:(keep|changes)(?: ([\w.-]+))? -->\s*")
_CLOSE = re.compile(r"<!-- /hubdpo:(keep|changes)(?: [\w.-]+)? -->\s*")
_FENCE = re.compile(r" {0,3}(`{3,}(?=[^`]*$)|~{3,})")
LOAD_HERE = 'data = load_dataset("parquet", data_dir="data")  # in this folder'
_LOAD = re.compile(
    rf'^(?:{re.escape(LOAD_HERE)}|data = load_dataset\("[\w.-]+/[\w.-]+", revision="[\w.+-]+"\))$', re.MULTILINE
)
"""How a dataset is loaded: the one line of its card that is written when it is published."""
_HEADING = re.compile(r" {0,3}#{1,6}(?:\s|$)")


@dataclass(frozen=True)
class Section:
    """One kept text. `place` is the heading it stands under, "" before the first one, None at the end of the card."""

    name: str
    place: str | None
    text: str


@dataclass(frozen=True)
class Card:
    """A card taken apart: `generated` is what hubdpo writes from manifests, without any marker."""

    generated: str
    kept: tuple[Section, ...] = ()
    changes: str | None = None


class _Fences:
    """Tells of each line whether it belongs to a code block (CommonMark 4.5)."""

    def __init__(self) -> None:
        self.open = ""

    def holds(self, line: str) -> bool:
        found = _FENCE.match(line)
        if not self.open:
            self.open = found[1] if found else ""
            return bool(found)
        bare = line.strip()
        if len(bare) >= len(self.open) and set(bare) == {self.open[0]} and found:
            self.open = ""
        return True


@dataclass
class _Block:
    """A section while it is read: under which heading, and after how many generated lines, it stands."""

    kind: str
    name: str
    place: str
    written: int
    lines: list[str] = field(default_factory=list)
    fences: _Fences = field(default_factory=_Fences)

    def takes(self, line: str) -> bool:
        """Take a line; False when it is the one that closes the section."""
        quoted = self.fences.holds(line)
        found = None if quoted else _CLOSE.fullmatch(line)
        if found and found[1] == self.kind:
            return False
        self.lines.append(line)
        return True


def split_card(text: str) -> Card:
    """Take a card apart. Raise ArtefactError for a section that is never closed."""
    text = text.replace("\r\n", "\n")
    lines, head = text.split("\n"), lines_of_front(text)
    out, place, written = lines[:head], "", 0
    fences = _Fences()
    block: _Block | None = None
    after_block = False
    blocks: list[_Block] = []
    for line in lines[head:]:
        if block is not None:
            if block.takes(line):
                continue
            block, after_block = None, True
            continue
        quoted = fences.holds(line)
        if not quoted and (found := _OPEN.fullmatch(line)):
            block = _Block(found[1], found[2] or "", place, written)
            blocks.append(block)
            continue
        if after_block and not line.strip() and (not out or not out[-1].strip()):
            continue  # of the blank lines before and after a block, those before it stay
        after_block = False
        if not quoted and _HEADING.match(line):
            place = line.strip()
        out.append(line)
        written = len(out) if line.strip() else written
    if block is not None:
        raise ArtefactError(
            f"a section `hubdpo:{block.kind}` of the card is opened and never closed",
            hint=f"add a line `<!-- /hubdpo:{block.kind} -->` after it, and close code blocks inside it",
        )
    return Card(
        generated="\n".join(out).rstrip("\n") + "\n",
        # nothing generated came after it: the end of the card is its place, whatever the last heading is
        kept=tuple(
            Section(one.name, None if one.written == written else one.place, text)
            for one in blocks
            if one.kind == KEEP and (text := _by_hand(one.lines))
        ),
        changes=next(("\n".join(one.lines).strip("\n") for one in blocks if one.kind == CHANGES), None),
    )


def join_card(card: Card) -> str:
    """Write the card: the kept sections in their places, and an empty one to write in; `split_card` undoes it.

    Raise ArtefactError when a code block is never closed, so that nothing after it could be told apart.
    """
    lines = card.generated.rstrip("\n").split("\n")
    ends = _ends(lines)
    inner: dict[int, list[Section]] = {}
    for one in card.kept:
        inner.setdefault(len(lines) if one.place is None else ends.get(one.place, len(lines)), []).append(one)
    out: list[str] = []
    for number, line in enumerate(lines):
        blank = not out or not out[-1].strip()
        for one in inner.get(number, ()):
            # a blank line more would not be taken out again where none stood before
            out += [*_block(KEEP, one.name, one.text), *[""] * blank]
        out.append(line)
    if card.changes:
        out += ["", *_block(CHANGES, "", card.changes)]
    for one in inner.get(len(lines)) or [Section("", None, NOTE)]:
        out += ["", *_block(KEEP, one.name, one.text)]
    return "\n".join(out) + "\n"


def generated(text: str) -> str:
    """Return what hubdpo wrote of a card: the sections and their markers left out."""
    return split_card(text).generated


def loading_release(text: str, repo: str, tag: str) -> str:
    """Return a dataset card that loads a release, where it loaded the folder or another release."""
    line = f'data = load_dataset("{repo}", revision="{tag}")'
    return _LOAD.sub(lambda found: line, text, count=1)


def loading_here(text: str) -> str:
    """Return a dataset card as it was before it was published."""
    return _LOAD.sub(lambda found: LOAD_HERE, text, count=1)


def kept_of(path: Path) -> tuple[Section, ...]:
    """Return the kept sections of a card file; none when there is no file."""
    return split_card(read_text(path)).kept if path.is_file() else ()


def merge_kept(base: Iterable[Section], *, theirs: Iterable[Section], ours: Iterable[Section]) -> tuple[Section, ...]:
    """Bring together what was written on the Hub (`theirs`) and here (`ours`), given what both started from.

    A section that one side alone changed, or took out, follows that side; without a start nothing counts as taken out.
    Raise ArtefactError for one that both changed.
    """
    start, there, here = _by_key(base), _by_key(theirs), _by_key(ours)
    merged = []
    for key in [*there, *(key for key in here if key not in there)]:
        before, remote, local = start.get(key), there.get(key), here.get(key)
        if local not in (before, remote) and remote != before:
            raise ArtefactError(
                f"the kept section {f'`{key[0]}` ' if key[0] else ''}of README.md was changed both here and on the Hub",
                hint="copy the text that is to stand into the README.md of the folder and of the Hub",
            )
        chosen = remote if local in (before, remote) else local
        if chosen is not None:
            merged.append(chosen)
    return tuple(merged)


def _by_key(sections: Iterable[Section]) -> dict[tuple[str, int], Section]:
    found: dict[tuple[str, int], Section] = {}
    for one in sections:
        number = sum(key[0] == one.name for key in found)
        found[one.name, number] = one
    return found


def _by_hand(lines: list[str]) -> str:
    """Return what a person wrote in a section: without our note, and without blank lines around it."""
    return "\n".join(line for line in lines if line.strip() != NOTE).strip("\n").rstrip()


def _block(kind: str, name: str, text: str) -> list[str]:
    return [f"<!-- hubdpo:{kind}{f' {name}' if name else ''} -->", *text.split("\n"), f"<!-- /hubdpo:{kind} -->"]


def _ends(lines: list[str]) -> dict[str, int]:
    """Return the line after each part, by the part's heading; of two headings alike, the first."""
    place, fences = "", _Fences()
    ends: dict[str, int] = {}
    head = lines_of_front("\n".join(lines))
    for number, line in enumerate(lines[head:], head):
        if not fences.holds(line) and _HEADING.match(line):
            ends.setdefault(place, number)
            place = line.strip()
    if fences.open:
        raise ArtefactError(
            "the card has a code block that is never closed", hint=f"close it with a line `{fences.open}`"
        )
    ends.setdefault(place, len(lines))
    return ends
