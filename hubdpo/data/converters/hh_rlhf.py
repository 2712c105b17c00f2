"""`hh-rlhf`: transcripts of Anthropic's helpful and harmless data (arXiv 2204.05862)."""

from __future__ import annotations

from typing import Any

import numpy as np

from hubdpo.data.converters.preference import systems_of
from hubdpo.data.converters.question import ask, system_of
from hubdpo.data.converters.rendered import ANSWER, QUESTION, SPEAKER, is_transcript, transcript
from hubdpo.data.pairs.example import PreferenceExample, Rejection, say, text_of
from hubdpo.data.pairs.message_column import CODE, Columns, MessagesColumn, with_systems

READS = ("chosen", "rejected")
_USER, _ASSISTANT = (bytes([CODE[role]]) for role in SPEAKER.values())


def detect(row: dict[str, Any]) -> bool:
    return row.get("prompt") is None and all(
        isinstance(text := row.get(name), str) and is_transcript(text) for name in READS
    )


def convert(row: dict[str, Any]) -> PreferenceExample:
    """Split at turn markers that stand at the start of a paragraph; the last assistant turn is the answer."""
    first, second = text_of(row, "chosen"), text_of(row, "rejected")
    border = first.rfind(ANSWER) + len(ANSWER)
    tails = first[border:], second[border:]
    if (
        border >= len(ANSWER)
        and second[:border] == first[:border]
        and not any(QUESTION in tail or ANSWER in tail for tail in tails)
    ):
        # nearly always: the transcripts are the same up to their last turn, so one of them is enough to take apart
        prompt = transcript(first[:border])[:-1]
        one, other = (say("assistant", tail.removeprefix(" ")) for tail in tails)
        return PreferenceExample(ask(prompt, system=system_of(row)).prompt, one, other)
    chosen, rejected = transcript(first), transcript(second)
    if chosen[-1]["role"] != "assistant" or rejected[-1]["role"] != "assistant":
        raise Rejection("does_not_end_with_assistant")
    if chosen[:-1] != rejected[:-1]:
        raise Rejection("histories_differ")
    return PreferenceExample(ask(chosen[:-1], system=system_of(row)).prompt, chosen[-1:], rejected[-1:])


def convert_many(rows: list[dict[str, Any]]) -> Columns | None:
    """Convert rows whose transcripts are the same up to their last turn."""
    texts: list[str] = []
    roles = bytearray()
    counts: list[int] = []
    answers: tuple[list[str], list[str]] = [], []
    for row in rows:
        first, second = row.get("chosen"), row.get("rejected")
        if type(first) is not str or type(second) is not str:
            return None
        border = first.rfind(ANSWER)
        asked = first[: max(border, 0)]
        if not second.startswith(asked) or not second.startswith(ANSWER, border):
            return None
        one, other = first[border + len(ANSWER) :], second[border + len(ANSWER) :]
        before, *rest = asked.split(QUESTION)
        if before or not rest or _has_turn(one) or _has_turn(other):
            return None
        start = len(texts)
        for part in rest:
            if ANSWER in part:
                asks, *answered = part.split(ANSWER)
                texts.append(asks)
                texts += answered
                roles += _USER + _ASSISTANT * len(answered)
            else:
                texts.append(part)
                roles += _USER
        counts.append(len(texts) - start)
        answers[0].append(one)
        answers[1].append(other)
    chosen, rejected = (MessagesColumn.turns(_bare(some), "assistant") for some in answers)
    prompt = MessagesColumn.of(_bare(texts), bytes(roles), np.array(counts, np.int64))
    systems = systems_of(rows)
    whole = with_systems(prompt, systems) if systems is not None else prompt
    return (whole, chosen, rejected) if whole is not None else None


def _has_turn(text: str) -> bool:
    # most answers are one paragraph, and one character is found faster than several
    return "\n" in text and (QUESTION in text or ANSWER in text)


def _bare(texts: list[str]) -> list[str]:
    return [text.removeprefix(" ") for text in texts]
