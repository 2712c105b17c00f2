"""Parts of a card that are not generated: sections that people wrote between markers, and the list of releases.

A marker stands alone on its line, outside code blocks, so that rows quoted in a card cannot forge one. The text between
`<!-- hubdpo:keep -->` (or `<!-- hubdpo:keep NAME -->`) and `<!-- /hubdpo:keep -->` is copied from release to release.
It goes to the end of the part whose heading it stood under, or to the end of the card if nothing generated followed it
or the heading is gone.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hubdpo.artefacts.formats.bounded import read_text
from hubdpo.artefacts.formats.front_matter import lines_of_front
from hubdpo.errors import ArtefactError

KEEP, CHANGES = "keep", "changes"
NOTE = "<!-- Write here by hand: what stands between these two markers stays in the card of the next release. -->"
_OPEN = re.compile(r"<!-- hubdpo:(keep|changes)(?: ([\w.-]+))? -->\s*")
_CLOSE = re.compile(r"<!-- /hubdpo:(keep|changes)(?: [\w.-]+)? -->\s*")
LOAD_HERE = 'data = load_dataset("parquet", data_dir="data")  # in this folder'
_LOAD = re.compile(
    rf'^(?:{re.escape(LOAD_HERE)}|data = load_dataset\("[\w.-]+/[\w.-]+", revision="[\w.+-]+"\))$', re.MULTILINE
)
"""The line of a dataset card that loads the data; publishing rewrites it."""
_GET = re.compile(r'^(?:pip install "hubdpo[^"\n]+"  )?(# made with hubdpo [\w.+]+)$', re.MULTILINE)
"""The line of a dataset card that tells the version of hubdpo; publishing puts a command that gets it before it."""
_HEADING = re.compile(r" {0,3}#{1,6}(?:\s|$)")


@dataclass(frozen=True)
class Section:
    """A kept text. `place` is the heading it stands under: "" before the first heading, None at the end of the card."""

    name: str
    place: str | None
    text: str


@dataclass(frozen=True)
class Card:
    """A card in parts: `generated` is the text that hubdpo derives from manifests, without markers."""

    generated: str
    kept: tuple[Section, ...] = ()
    changes: str | None = None


@dataclass
class _Block:
    """A section while it is read: the heading above it, and the number of generated lines before it."""

    kind: str
    name: str
    place: str
    written: int
    lines: list[str] = field(default_factory=list)


def split_card(text: str) -> Card:
    """Split a card into its parts. Raise ArtefactError for a section that is never closed."""
    text = text.replace("\r\n", "\n")
    lines, head = text.split("\n"), lines_of_front(text)
    code, _ = _code_of(lines, head)
    out, place, written = lines[:head], "", 0
    block: _Block | None = None
    after_block = False
    blocks: list[_Block] = []
    for number, line in enumerate(lines[head:], head):
        in_code = number in code
        if block is not None:
            closing = None if in_code else _CLOSE.fullmatch(line)
            if closing and closing[1] == block.kind:
                block, after_block = None, True
            else:
                block.lines.append(line)
            continue
        if not in_code and (opening := _OPEN.fullmatch(line)):
            block = _Block(opening[1], opening[2] or "", place, written)
            blocks.append(block)
            continue
        if after_block and not line.strip() and (not out or not out[-1].strip()):
            continue  # of the blank lines around a block, only those before it are kept
        after_block = False
        if not in_code and _HEADING.match(line):
            place = line.strip()
        out.append(line)
        written = len(out) if line.strip() else written
    if block is not None:
        raise ArtefactError(
            f"the section `hubdpo:{block.kind}` of the card is never closed",
            hint=f"add a line `<!-- /hubdpo:{block.kind} -->` after it, and close code blocks inside it",
        )
    return Card(
        generated="\n".join(out).rstrip("\n") + "\n",
        # a section with nothing generated after it belongs to the end of the card, whatever the last heading is
        kept=tuple(
            Section(section.name, None if section.written == written else section.place, text)
            for section in blocks
            if section.kind == KEEP and (text := _written_by_hand(section.lines))
        ),
        changes=next(("\n".join(section.lines).strip("\n") for section in blocks if section.kind == CHANGES), None),
    )


def join_card(card: Card) -> str:
    """Return the text of a card, each kept section in its place, or an empty section to write in; see `split_card`.

    Raise ArtefactError for a code block that is never closed, which would hide the markers after it.
    """
    lines = card.generated.rstrip("\n").split("\n")
    ends = _ends_of_parts(lines)
    sections: dict[int, list[Section]] = {}
    for section in card.kept:
        end = len(lines) if section.place is None else ends.get(section.place, len(lines))
        sections.setdefault(end, []).append(section)
    out: list[str] = []
    for number, line in enumerate(lines):
        after_blank = not out or not out[-1].strip()
        for section in sections.get(number, ()):
            # `split_card` removes a blank line after the section only if there is one before it
            out += [*_block(KEEP, section.name, section.text), *[""] * after_blank]
        out.append(line)
    if card.changes:
        out += ["", *_block(CHANGES, "", card.changes)]
    for section in sections.get(len(lines)) or [Section("", None, NOTE)]:
        out += ["", *_block(KEEP, section.name, section.text)]
    return "\n".join(out) + "\n"


def loading_release(text: str, repo: str, tag: str, get: str = "") -> str:
    """Return a dataset card with a load line for a release, and with the command that gets hubdpo, if there is one."""
    text = _GET.sub(lambda line: f"{get}  {line[1]}" if get else line[1], text, count=1)
    line = f'data = load_dataset("{repo}", revision="{tag}")'
    return _LOAD.sub(lambda _: line, text, count=1)


def loading_here(text: str) -> str:
    """Return a dataset card with the load line for the local folder, and without a command that gets hubdpo.

    So the same rows give the same card, however hubdpo was installed.
    """
    return _GET.sub(r"\1", _LOAD.sub(lambda _: LOAD_HERE, text, count=1), count=1)


def kept_of(path: Path) -> tuple[Section, ...]:
    """Return the kept sections of a card file; none if the file does not exist."""
    return split_card(read_text(path)).kept if path.is_file() else ()


def merge_kept(base: Iterable[Section], *, theirs: Iterable[Section], ours: Iterable[Section]) -> tuple[Section, ...]:
    """Merge the kept sections on the Hub (`theirs`) and here (`ours`), given their common `base`.

    A section that only one side changed or removed follows that side. Without a base, nothing counts as removed. Raise
    ArtefactError for a section that both sides changed.
    """
    start, there, here = _by_key(base), _by_key(theirs), _by_key(ours)
    merged = []
    for key in [*there, *(key for key in here if key not in there)]:
        before, remote, local = start.get(key), there.get(key), here.get(key)
        if local not in (before, remote) and remote != before:
            raise ArtefactError(
                f"the kept section {f'`{key[0]}` ' if key[0] else ''}of README.md was changed both here and on the Hub",
                hint="write the same text into the README.md of the folder and of the Hub",
            )
        chosen = remote if local in (before, remote) else local
        if chosen is not None:
            merged.append(chosen)
    return tuple(merged)


def _by_key(sections: Iterable[Section]) -> dict[tuple[str, int], Section]:
    """Index sections by name, and by their order among sections of that name."""
    keyed: dict[tuple[str, int], Section] = {}
    seen: Counter[str] = Counter()
    for section in sections:
        keyed[section.name, seen[section.name]] = section
        seen[section.name] += 1
    return keyed


def _written_by_hand(lines: list[str]) -> str:
    """Return the text of a section without our note and without blank lines around it."""
    return "\n".join(line for line in lines if line.strip() != NOTE).strip("\n").rstrip()


def _block(kind: str, name: str, text: str) -> list[str]:
    return [f"<!-- hubdpo:{kind}{f' {name}' if name else ''} -->", *text.split("\n"), f"<!-- /hubdpo:{kind} -->"]


def _ends_of_parts(lines: list[str]) -> dict[str, int]:
    """Return the line after each part, by the part's heading; the first of two equal headings counts."""
    head = lines_of_front("\n".join(lines))
    code, open_fence = _code_of(lines, head)
    if open_fence:
        raise ArtefactError(
            "the card has a code block that is never closed", hint=f"close it with a line `{open_fence}`"
        )
    ends: dict[str, int] = {}
    place = ""
    for number, line in enumerate(lines[head:], head):
        if number not in code and _HEADING.match(line):
            ends.setdefault(place, number)
            place = line.strip()
    ends.setdefault(place, len(lines))
    return ends


def _code_of(lines: Sequence[str], start: int) -> tuple[set[int], str]:
    """Return the line numbers of code blocks from line `start` on, and the fence of one that is never closed, or "".

    No other Markdown is parsed: a card may come from anybody, and some rules of Markdown can be made to take time with
    the square of its length.
    """
    from markdown_it import MarkdownIt

    # the rule `code` lets the parser see that a fence is indented too far
    parser = MarkdownIt("zero").enable(["code", "fence"]).disable("inline")
    # a lone carriage return is a line break for the parser, and would shift its line numbers
    tokens = parser.parse("\n".join(lines[start:]).replace("\r", " "))
    numbers: set[int] = set()
    open_fence = ""
    for token in tokens:
        if token.type == "fence" and token.map is not None:
            first, stop = token.map
            numbers.update(range(start + first, start + stop))
            closing = rf" {{0,3}}{re.escape(token.markup[0])}{{{len(token.markup)},}}\s*"
            if stop - first < 2 or not re.fullmatch(closing, lines[start + stop - 1]):
                open_fence = token.markup
    return numbers, open_fence
