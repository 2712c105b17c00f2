"""Count markers of what plain text cannot be: turns of another chat template, tool calls, images that are not there.

The texts are kept as they are; the counts are reported by kind, so that nobody trains on markers unawares. Spellings
that code and prose use too (`<img src=...>`, `docker run <image>`) are not markers.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from hubdpo.artefacts.formats.messages import COLUMNS
from hubdpo.data.pairs.extras import texts_in
from hubdpo.data.pairs.message_column import MAY_BEGIN_SPACE, MAY_END_SPACE, MessageColumn, PairColumns, edge_bytes

Offsets = npt.NDArray[np.int64]
MarkerCounts = Counter[tuple[str, str, str]]
"""Pairs by (side, kind, marker), and by (side, kind, "") those with any marker of the kind."""

_ANYWHERE = re.compile(
    rb"<\|\w{1,40}\|>|<\xef\xbd\x9c[^\s<>]{1,80}?\xef\xbd\x9c>|<(?:start|end)_of_(?:turn|image)>|\[/?INST\]"
    rb"|<(?:tool_(?:calls?|responses?|results?|outputs?|use)|function_(?:calls?|responses?|results?)|functioncall)>"
    rb"|<function=(?=[\w.:/-]{1,80}>)|\[(?:TOOL_(?:CALLS|RESULTS|CONTENT)|AVAILABLE_TOOLS)\]"
    rb"|<extra_id_\d{1,3}>"
    rb"|<(?:image|img|video|audio)_(?:token|soft_token|pad|placeholder|context|start|end|newline)s?>"
    rb"|<(?:IMG|IMAGE|VIDEO|AUDIO)_CONTEXT>|<ImageHere>|<image[ _-]?\d{1,3}>|\[IMG_(?:BREAK|END)\]"
    rb"|<img>(?=[^<>\s]{1,1024}</img>)|<image>(?=[ \t]*(?:\r?\n|\Z|<image>))|\[(?=[^\]\n]{0,200}\]\(data:image/)"
)
"""Markers that count anywhere in a text."""
_BEGINS = {
    b"<": (b"sta", b"end", b"too", b"fun", b"ima", b"img", b"vid", b"aud", b"IMG", b"IMA", b"VID", b"AUD", b"Ima",
           b"ext", b"\xef\xbd\x9c"),
    b"[": (b"INS", b"/IN", b"TOO", b"AVA", b"IMG"),
}  # fmt: skip
"""The three bytes behind the first byte of a marker; `<|` and `![` are recognised apart from these."""
_BEFORE_IMAGE = re.compile(rb"(?:\A|[\n>]|\b(?:Image|Picture|Frame|Figure)[ -]?\d+:)[ \t]*\Z")
_SPEAKERS = "Assistant|ASSISTANT|助手|助理|机器人"
_ASKER = r"(?:User|USER|Human|HUMAN|用户|人类) ?[:：]"
_REPLIER = re.compile(rf"(?<![^\s。！？!?.；;])(?:{_SPEAKERS}|AI|Bot) ?[:：]")
_PROMPT_START = re.compile(
    r"\s*(###\s*(?:Question|Instruction|Human|User|System|Input)s?:|Below is an instruction"
    rf"|<s>|<image>|<video>|<audio>|{_ASKER})"
)
_PROMPT_END = re.compile(
    rf"(###\s*(?:Answer|Response|Assistant|Output):?|(?<!\w)(?:{_SPEAKERS})[:：]|</s>|<image>|<video>|<audio>)\s*\Z"
)
_ANSWER_START = re.compile(rf"\s*(###\s*(?:Answer|Response|Assistant|Output):|<s>|<image>|(?:{_SPEAKERS}) ?[:：])")
_ANSWER_END = re.compile(r"(</s>)\s*\Z")
_NEAR_END = 60
"""Characters at the end of a text in which a closing marker is searched for."""
_SHORTEST = 10
"""Characters of the shortest prompt that two answers do not repeat by chance."""


# bool (256,): whether a byte may be the first, or the last, of a text with a marker there
_MAY_BEGIN = MAY_BEGIN_SPACE | edge_bytes("#B<UH用人", 0)
_MAY_BEGIN_ANSWER = MAY_BEGIN_SPACE | edge_bytes("#<A助机", 0)
_MAY_END = MAY_END_SPACE | edge_bytes(":>ret：", -1)
_MAY_END_ANSWER = MAY_END_SPACE | edge_bytes(">", -1)
_MEDIA = re.compile(r"image|img|picture|vision|video|audio|data:", re.IGNORECASE)
_TOOLS = re.compile(r"tool|function|python_tag", re.IGNORECASE)


def kind_of(marker: str) -> str:
    """Return the kind of a marker: `media`, `tool_calls`, `speakers` or `template`."""
    if _MEDIA.search(marker):
        return "media"
    if _TOOLS.search(marker):
        return "tool_calls"
    return "speakers" if marker.endswith((":", "：")) and not marker.startswith("#") else "template"


def count_markers(columns: PairColumns, extras: Sequence[str]) -> MarkerCounts:
    """Count the pairs with markers in their texts, those of calls and reasoning included."""
    beside = {row: texts_in(text) for row, text in enumerate(extras) if text}
    counts: MarkerCounts = Counter()
    for side, names in (("prompts", COLUMNS[:1]), ("answers", COLUMNS[1:])):
        answers = side == "answers"
        texts = {row: [text for name in names for text in of[name]] for row, of in beside.items()}
        # (row, marker): a pair counts once for a marker, however often and in whichever answer it stands
        found = _markers_beside(texts, answers=answers)
        for name in names:
            found |= markers(getattr(columns, name), answers=answers)
        counts.update((side, kind_of(marker), marker) for _, marker in found)
        counts.update((side, kind, "") for _, kind in {(row, kind_of(marker)) for row, marker in found})
    if repeated := _count_repeated_prompts(columns):
        counts.update({("answers", "repeats", "prompt + answer"): repeated, ("answers", "repeats", ""): repeated})
    return counts


def _count_repeated_prompts(columns: PairColumns) -> int:
    """Count the pairs whose answers both begin with the whole last message of the prompt; one alone may quote it."""
    prompt, chosen, rejected = columns
    if not len(prompt.counts) or not all((column.counts > 0).all() for column in columns):
        return 0
    # message indices, int64 (rows,): the last message of each prompt and the first of each answer
    question, first_chosen, first_rejected = prompt.ends[1:] - 1, chosen.ends[:-1], rejected.ends[:-1]
    begin = prompt.edges[0][question]
    candidates = (chosen.edges[0][first_chosen] == begin) & (rejected.edges[0][first_rejected] == begin)
    count = 0
    for row in np.flatnonzero(candidates).tolist():
        text = prompt.texts[question[row]].strip()
        count += len(text) >= _SHORTEST and all(
            answer.startswith(text) and len(answer) > len(text)
            for answer in (chosen.texts[first_chosen[row]], rejected.texts[first_rejected[row]])
        )
    return count


def markers(column: MessageColumn, *, answers: bool) -> set[tuple[int, str]]:
    """Return the (row, marker) pairs of a column of prompts or answers."""
    found = set(_by_message(column, answers))
    if column.single:
        return found
    return {(int(np.searchsorted(column.ends, message, "right")) - 1, marker) for message, marker in found}


def _markers_beside(texts: dict[int, list[str]], *, answers: bool) -> set[tuple[int, str]]:
    """Return the (row, marker) pairs of texts by row."""
    rows = [row for row, of_row in texts.items() for _ in of_row]
    column = MessageColumn.single_turns([text for of_row in texts.values() for text in of_row], "assistant")
    return {(rows[at], marker) for at, marker in markers(column, answers=answers)}


def template_mark(text: str) -> str | None:
    """Return the first marker of a chat template's turns in a text."""
    found = (match[0].decode() for match in _ANYWHERE.finditer(text.encode(errors="replace")))
    return next((marker for marker in found if kind_of(marker) == "template"), None)


def _by_message(column: MessageColumn, answers: bool) -> Iterator[tuple[int, str]]:
    """Yield (message index, marker)."""
    if not column.texts:
        return
    yield from _anywhere(column)
    first, last = column.edges
    may_begin, start = (_MAY_BEGIN_ANSWER, _ANSWER_START) if answers else (_MAY_BEGIN, _PROMPT_START)
    may_end, end = (_MAY_END_ANSWER, _ANSWER_END) if answers else (_MAY_END, _PROMPT_END)
    for message in np.flatnonzero(may_begin[first]).tolist():
        text = column.texts[message]
        if match := start.match(text):
            if answers or not match[1].endswith((":", "：")) or match[1].startswith("#"):
                yield message, match[1]
            elif reply := _REPLIER.search(text, match.end()):  # one speaker alone is not a transcript
                yield message, match[1]
                yield message, reply[0]
    for message in np.flatnonzero(may_end[last]).tolist():
        if match := end.search(column.texts[message][-_NEAR_END:]):
            yield message, match[1]


def _anywhere(column: MessageColumn) -> Iterator[tuple[int, str]]:
    """Yield (message index, marker) of markers that count anywhere, searching all messages at once."""
    blob = np.frombuffer(column.blob, np.uint8)
    ends = np.cumsum(column.sizes, dtype=np.int64)  # (messages,): end of each message in the blob
    for opener in _BEGINS:
        if opener not in column.blob or not len(offsets := _candidates(blob, opener)):
            continue
        owners = np.searchsorted(ends, offsets, "right")  # (candidates,): message of each offset
        starts = offsets - ends[owners] + column.sizes[owners]  # (candidates,): offset within its message
        for message, start in zip(owners.tolist(), starts.tolist(), strict=True):
            text = column.utf8[message]
            if (match := _ANYWHERE.match(text, start)) and (marker := _spelling(match[0], text, start)) is not None:
                yield message, marker


def _candidates(blob: npt.NDArray[np.uint8], opener: bytes) -> Offsets:
    """Return the offsets in a blob, uint8 (bytes,), where a marker with this first byte may begin.

    The next three bytes are compared as one big-endian number, which is faster than comparing texts.
    """
    # the last four bytes can begin no marker, so reading up to four bytes further stays inside the blob
    offsets: Offsets = np.flatnonzero(blob[:-4] == opener[0])
    first, second, third = (blob[offsets + i].astype(np.uint32) for i in (1, 2, 3))
    known = [int.from_bytes(begin, "big") for begin in _BEGINS[opener]]
    likely = np.isin((first << 16) | (second << 8) | third, known)
    if opener == b"[":
        likely |= blob[offsets - 1] == ord("!")
    else:  # no marker has a space at its fifth byte, and `<img src=...>` does
        likely = (likely | (first == ord("|"))) & (blob[offsets + 4] != ord(" "))
    return offsets[likely]


def _spelling(marker: bytes, text: bytes, start: int) -> str | None:
    """Return how a marker is reported, or None if it is code that is spelt the same."""
    if marker == b"[":
        return "![](data:image/…)" if text[start - 1 : start] == b"!" else None
    if marker == b"<image>" and (_closes_image(text) or not _BEFORE_IMAGE.search(text[max(start - 20, 0) : start])):
        return None
    return {b"<img>": "<img>…</img>", b"<function=": "<function=…>"}.get(marker) or marker.decode()


@functools.lru_cache(maxsize=1)  # asked at each `<image>` of a text, one after the other
def _closes_image(text: bytes) -> bool:
    return b"</image>" in text
