"""Texts that a chat template, or a transcript, has already made of a conversation: taken apart, or at least seen.

ChatML and `Human:` / `Assistant:` transcripts are taken apart. Any other template is counted by its markers, which stay
in the text: the model's own template would be laid over them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

import numpy as np

from hubdpo.data.columns import Columns, MessagesColumn
from hubdpo.data.messages import role_of
from hubdpo.data.preference import Message, Rejection

TURN = re.compile(r"\n\n(Human|Assistant):")
QUESTION, ANSWER = "\n\nHuman:", "\n\nAssistant:"
SPEAKER = {"Human": "user", "Assistant": "assistant"}
CHATML, CHATML_END, END_OF_TEXT = "<|im_start|>", "<|im_end|>", "<|endoftext|>"

_FAMILIES = (
    (b"<|", re.compile(rb"<\|\w{1,40}\|>")), (b"T]", re.compile(rb"\[/?INST\]")),
    (b"f_", re.compile(rb"<(?:start|end)_of_turn>")), (b"<\xef", re.compile("<｜[^｜\\s]{1,40}｜>".encode())),
)  # fmt: skip
"""Markers that are markers wherever they stand, each with two bytes of it that are rare in other text."""
_FIRST = re.compile(
    r"\s*(###\s*(?:Question|Instruction|Human|User|System|Input)s?:|Below is an instruction"
    r"|<s>|<image>|<video>|<audio>)"
)
_LAST = re.compile(
    r"(###\s*(?:Answer|Response|Assistant|Output):?|\b(?:ASSISTANT|Assistant):|</s>|<image>|<video>|<audio>)\s*\Z"
)
_FIRST_OF_ANSWER = re.compile(r"\s*(###\s*(?:Answer|Response|Assistant|Output):|<s>|<image>)")
_LAST_OF_ANSWER = re.compile(r"(</s>)\s*\Z")
_NEAR_AN_END = 60
_MAY_BEGIN = np.isin(np.arange(256), list(b"#B< \t\r\n"))
_MAY_END = np.isin(np.arange(256), list(b":>st \t\r\n"))
_MAY_BEGIN_RENDERED = np.isin(np.arange(256), list(b"<H \t\r\n"))
_MAY_END_RENDERED = np.isin(np.arange(256), list(b"> \t\r\n"))


def is_chatml(text: str) -> bool:
    return text.lstrip().startswith(CHATML)


def ends_as_chatml(text: str) -> bool:
    return text.rstrip().removesuffix(END_OF_TEXT).rstrip().endswith(CHATML_END)


def is_transcript(text: str) -> bool:
    return text.lstrip().startswith("Human:") and ANSWER in text


def is_rendered(text: str) -> bool:
    """Tell whether a text is to be taken apart."""
    return is_chatml(text) or ends_as_chatml(text) or is_transcript(text)


def any_rendered(column: MessagesColumn) -> bool:
    """Tell it of many texts, nearly all of which need no look but at their first and last byte."""
    first, last = column.edges
    places = np.flatnonzero(_MAY_BEGIN_RENDERED[first] | _MAY_END_RENDERED[last])
    return any(is_rendered(column.texts[place]) for place in places.tolist())


def turns_of(text: str) -> list[Message]:
    """Take ChatML or a transcript apart; where the assistant is to speak, that turn is left out."""
    messages = _chatml(text) if is_chatml(text) else transcript(text)
    if messages[-1]["role"] == "assistant" and not messages[-1]["content"].strip():
        messages = messages[:-1]
    return messages


def answer_of(text: str, *, transcript_before: bool) -> list[Message]:
    """Return what an answer that goes on from a rendered prompt, or ends as one, says: usually one turn."""
    if ends_as_chatml(text) or CHATML in text:
        return _chatml(f"{CHATML}assistant\n{text}")
    if transcript_before:
        return transcript(ANSWER + text) if QUESTION in text or ANSWER in text else _said(text.removeprefix(" "))
    return _said(text)


def transcript(text: str) -> list[Message]:
    """Split at the turn markers that begin a paragraph. Raise Rejection when the text does not begin with one."""
    # the first marker may stand at the very start; a pattern that begins with fixed text is found several times as fast
    before, *parts = TURN.split(text if text.startswith("\n\n") else "\n\n" + text)
    if before.strip() or len(parts) < 4:
        raise Rejection("not_a_transcript")
    return [
        {"role": SPEAKER[speaker], "content": text.removeprefix(" ")}
        for speaker, text in zip(parts[::2], parts[1::2], strict=True)
    ]


def _said(text: str) -> list[Message]:
    return [{"role": "assistant", "content": text}]


def _chatml(text: str) -> list[Message]:
    before, *parts = text.split(CHATML)
    messages: list[Message] = []
    for part in parts:
        role, _, rest = part.partition("\n")
        content, end, after = rest.partition(CHATML_END)
        if (not end and part is not parts[-1]) or after.replace(END_OF_TEXT, "").strip():
            raise Rejection("broken_template")
        messages.append({"role": role_of(role), "content": content})
    if before.strip():
        raise Rejection("broken_template")
    return messages


def count_markers(columns: Columns) -> Counter[tuple[str, str]]:
    """Count the pairs that hold a marker of a template, by side and marker; by side and nothing, those with any."""
    prompt, chosen, rejected = columns
    counts: Counter[tuple[str, str]] = Counter()
    answers = markers(chosen, answers=True) | markers(rejected, answers=True)
    for side, found in (("prompts", markers(prompt, answers=False)), ("answers", answers)):
        if found:
            counts.update((side, marker) for _, marker in found)
            counts[side, ""] = len({row for row, _ in found})
    return counts


def markers(column: MessagesColumn, *, answers: bool) -> set[tuple[int, str]]:
    """Return (row, marker) of each row that holds a marker of a template."""
    return {(_row(column, place), marker) for place, marker in _found(column, answers)}


def _row(column: MessagesColumn, message: int) -> int:
    return message if column.single else int(np.searchsorted(column.ends, message, "right")) - 1


def _found(column: MessagesColumn, answers: bool) -> Iterator[tuple[int, str]]:
    """Give (message, marker)."""
    if not column.texts:
        return
    ends = None
    for pair, pattern in _FAMILIES:
        if not _has_pair(column.blob, pair):
            continue
        ends = np.cumsum(column.sizes, dtype=np.int64) if ends is None else ends
        for match in pattern.finditer(column.blob):
            yield int(np.searchsorted(ends, match.start(), "right")), match[0].decode()
    first, last = column.edges
    at_start, at_end = (_FIRST_OF_ANSWER, _LAST_OF_ANSWER) if answers else (_FIRST, _LAST)
    for place in np.flatnonzero(_MAY_BEGIN[first]).tolist():
        if begins := at_start.match(column.texts[place]):
            yield place, begins[1]
    for place in np.flatnonzero(_MAY_END[last]).tolist():
        if stops := at_end.search(column.texts[place][-_NEAR_AN_END:]):
            yield place, stops[1]


def _has_pair(blob: bytes, pair: bytes) -> bool:
    """Tell whether two bytes stand beside each other: as numbers of 16 bits, ten times as fast as a search."""
    if pair[1:] not in blob or pair[:1] not in blob:  # faster still
        return False
    number = int.from_bytes(pair, "little")
    views = (np.frombuffer(blob, "<u2", (len(blob) - start) // 2, start) for start in (0, 1) if len(blob) > start)
    return any(bool((view == number).any()) for view in views)
