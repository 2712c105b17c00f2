"""Marks in texts of what text alone cannot be: another chat template's turns, tool calls, pictures that are not there.

They stay as they are, and are counted by kind, so that nobody trains on them unawares. Words that code and prose use
too (`<img src=...>`, `docker run <image>`) are no marks.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np

from hubdpo.data.pairs.message_column import MAY_BEGIN_SPACE, MAY_END_SPACE, MessageColumn, PairColumns

MarkerCounts = Counter[tuple[str, str, str]]
"""Pairs by (side, kind, marker); by (side, kind, nothing) those that have any of that kind."""

_ANYWHERE = re.compile(
    rb"<\|\w{1,40}\|>|<\xef\xbd\x9c[^\s<>]{1,80}?\xef\xbd\x9c>|<(?:start|end)_of_(?:turn|image)>|\[/?INST\]"
    rb"|<(?:tool_(?:calls?|responses?|results?|outputs?|use)|function_(?:calls?|responses?|results?)|functioncall)>"
    rb"|<function=(?=[\w.:/-]{1,80}>)|\[(?:TOOL_(?:CALLS|RESULTS|CONTENT)|AVAILABLE_TOOLS)\]"
    rb"|<(?:image|img|video|audio)_(?:token|soft_token|pad|placeholder|context|start|end|newline)s?>"
    rb"|<(?:IMG|IMAGE|VIDEO|AUDIO)_CONTEXT>|<ImageHere>|<image[ _-]?\d{1,3}>|\[IMG_(?:BREAK|END)\]"
    rb"|<img>(?=[^<>\s]{1,1024}</img>)|<image>(?=[ \t]*(?:\r?\n|\Z|<image>))|\[(?=[^\]\n]{0,200}\]\(data:image/)"
)
"""Marks wherever they stand."""
_BEGINS = {
    b"<": (b"sta", b"end", b"too", b"fun", b"ima", b"img", b"vid", b"aud", b"IMG", b"IMA", b"VID", b"AUD", b"Ima",
           b"\xef\xbd\x9c"),
    b"[": (b"INS", b"/IN", b"TOO", b"AVA", b"IMG"),
}  # fmt: skip
"""The three bytes that follow the first one of a mark; `<|` and `![` are two more."""
_BEFORE_IMAGE = re.compile(rb"(?:\A|[\n>]|\b(?:Image|Picture|Frame|Figure)[ -]?\d+:)[ \t]*\Z")
_SPEAKERS = "Assistant|ASSISTANT|助手|助理|机器人"
_ASKER = r"(?:User|USER|Human|HUMAN|用户|人类) ?[:：]"
_REPLIER = re.compile(rf"(?<![^\s。！？!?.；;])(?:{_SPEAKERS}|AI|Bot) ?[:：]")
_FIRST = re.compile(
    r"\s*(###\s*(?:Question|Instruction|Human|User|System|Input)s?:|Below is an instruction"
    rf"|<s>|<image>|<video>|<audio>|{_ASKER})"
)
_LAST = re.compile(
    rf"(###\s*(?:Answer|Response|Assistant|Output):?|(?<!\w)(?:{_SPEAKERS})[:：]|</s>|<image>|<video>|<audio>)\s*\Z"
)
_FIRST_OF_ANSWER = re.compile(rf"\s*(###\s*(?:Answer|Response|Assistant|Output):|<s>|<image>|(?:{_SPEAKERS}) ?[:：])")
_LAST_OF_ANSWER = re.compile(r"(</s>)\s*\Z")
_NEAR_AN_END = 60
_SHORTEST = 10
"""Characters of a prompt that two answers do not begin with by chance."""


def _bytes_of(*texts: str, edge: int) -> Any:
    return np.isin(np.arange(256), [text.encode()[edge] for text in texts])


_MAY_BEGIN = MAY_BEGIN_SPACE | _bytes_of("#", "B", "<", "U", "H", "用", "人", edge=0)
_MAY_BEGIN_ANSWER = MAY_BEGIN_SPACE | _bytes_of("#", "<", "A", "助", "机", edge=0)
_MAY_END = MAY_END_SPACE | _bytes_of(":", ">", "r", "e", "t", "：", edge=-1)
_MAY_END_ANSWER = MAY_END_SPACE | _bytes_of(">", edge=-1)
_MEDIA = re.compile(r"image|img|picture|vision|video|audio|data:", re.IGNORECASE)
_TOOLS = re.compile(r"tool|function|python_tag", re.IGNORECASE)


def kind_of(marker: str) -> str:
    """Return the key of KINDS that says what a marker marks."""
    if _MEDIA.search(marker):
        return "media"
    if _TOOLS.search(marker):
        return "tool_calls"
    return "speakers" if marker.endswith((":", "：")) and not marker.startswith("#") else "template"


def count_markers(columns: PairColumns) -> MarkerCounts:
    """Count the pairs that hold a marker, by side, kind and marker."""
    prompt, chosen, rejected = columns
    counts: MarkerCounts = Counter()
    answers = markers(chosen, answers=True) | markers(rejected, answers=True)
    for side, found in (("prompts", markers(prompt, answers=False)), ("answers", answers)):
        if found:
            counts.update((side, kind_of(marker), marker) for _, marker in found)
            counts.update((side, kind, "") for _, kind in {(row, kind_of(marker)) for row, marker in found})
    if repeated := _repeated(prompt, chosen, rejected):
        counts.update({("answers", "repeats", "prompt + answer"): repeated, ("answers", "repeats", ""): repeated})
    return counts


def _repeated(prompt: MessageColumn, chosen: MessageColumn, rejected: MessageColumn) -> int:
    """Count the pairs whose answers both begin with all of the prompt's last message: one alone may quote it."""
    if not len(prompt.counts) or not all((column.counts > 0).all() for column in (prompt, chosen, rejected)):
        return 0
    asked, one, other = prompt.ends[1:] - 1, chosen.ends[:-1], rejected.ends[:-1]
    first = prompt.edges[0][asked]
    alike = np.flatnonzero((chosen.edges[0][one] == first) & (rejected.edges[0][other] == first))
    count = 0
    for row in alike.tolist():
        text = prompt.texts[asked[row]].strip()
        count += len(text) >= _SHORTEST and all(
            answer.startswith(text) and len(answer) > len(text)
            for answer in (chosen.texts[one[row]], rejected.texts[other[row]])
        )
    return count


def markers(column: MessageColumn, *, answers: bool) -> set[tuple[int, str]]:
    """Return (row, marker) of each row that holds one."""
    return {(_row(column, place), marker) for place, marker in _found(column, answers)}


def template_mark(text: str) -> str | None:
    """Return the first mark of a chat template's turns in a text."""
    found = (match[0].decode() for match in _ANYWHERE.finditer(text.encode(errors="replace")))
    return next((marker for marker in found if kind_of(marker) == "template"), None)


def _row(column: MessageColumn, message: int) -> int:
    return message if column.single else int(np.searchsorted(column.ends, message, "right")) - 1


def _found(column: MessageColumn, answers: bool) -> Iterator[tuple[int, str]]:
    """Give (message, marker)."""
    if not column.texts:
        return
    yield from _anywhere(column)
    first, last = column.edges
    may_begin, at_start = (_MAY_BEGIN_ANSWER, _FIRST_OF_ANSWER) if answers else (_MAY_BEGIN, _FIRST)
    may_end, at_end = (_MAY_END_ANSWER, _LAST_OF_ANSWER) if answers else (_MAY_END, _LAST)
    for place in np.flatnonzero(may_begin[first]).tolist():
        if begins := at_start.match(column.texts[place]):
            if answers or not begins[1].endswith((":", "：")) or begins[1].startswith("#"):
                yield place, begins[1]
            elif replies := _REPLIER.search(column.texts[place], begins.end()):  # one speaker alone is no talk
                yield place, begins[1]
                yield place, replies[0]
    for place in np.flatnonzero(may_end[last]).tolist():
        if stops := at_end.search(column.texts[place][-_NEAR_AN_END:]):
            yield place, stops[1]


def _anywhere(column: MessageColumn) -> Iterator[tuple[int, str]]:
    blob = np.frombuffer(column.blob, np.uint8)
    ends = None
    for opener in _BEGINS:
        if opener not in column.blob or not len(places := _likely(blob, opener)):
            continue
        ends = np.cumsum(column.sizes, dtype=np.int64) if ends is None else ends
        owners = np.searchsorted(ends, places, "right")
        for message, at in zip(owners.tolist(), (places - ends[owners] + column.sizes[owners]).tolist(), strict=True):
            text = column.utf8[message]
            if (match := _ANYWHERE.match(text, at)) and (marker := _spelt(match[0], text, at)) is not None:
                yield message, marker


def _likely(blob: Any, opener: bytes) -> Any:
    """Return where in uint8 (bytes,) a mark that begins so may stand: numbers are compared faster than texts."""
    places = np.flatnonzero(blob[:-4] == opener[0])
    first = blob[places + 1]
    number = _number(first, blob[places + 2], blob[places + 3])
    likely = np.isin(number, [_number(*begins) for begins in _BEGINS[opener]])
    if opener == b"[":
        return places[likely | (blob[places - 1] == ord("!"))]
    # none has a space there, and `<img src=...>` does
    return places[(likely | (first == ord("|"))) & (blob[places + 4] != ord(" "))]


def _number(first: Any, second: Any, third: Any) -> Any:
    """Write three bytes, or arrays of them, as one number."""
    return (np.uint32(65536) * first) | (np.uint32(256) * second) | third


def _spelt(marker: bytes, text: bytes, at: int) -> str | None:
    """Return a marker as it is told, None for what code says in the same words."""
    if marker == b"[":
        return "![](data:image/…)" if text[at - 1 : at] == b"!" else None
    if marker == b"<image>" and (_closes_image(text) or not _BEFORE_IMAGE.search(text[max(at - 20, 0) : at])):
        return None
    return {b"<img>": "<img>…</img>", b"<function=": "<function=…>"}.get(marker) or marker.decode()


@functools.lru_cache(maxsize=1)  # a text is asked at each `<image>` of it, one after the other
def _closes_image(text: bytes) -> bool:
    return b"</image>" in text
