"""`hh-rlhf`: transcripts of Anthropic's helpful and harmless data (arXiv 2204.05862)."""

from __future__ import annotations

import numpy as np

from hubdpo.data.converters.contract import Converter
from hubdpo.data.converters.prompts import SYSTEM, read_prompt, system_of, systems_of
from hubdpo.data.converters.rendered_chats import ANSWER, QUESTION, SPEAKER, is_transcript, parse_transcript
from hubdpo.data.pairs.example import PreferenceExample, Rejection, Row, expect
from hubdpo.data.pairs.message_column import CODE, MessageColumn, PairColumns, with_systems

COLUMNS = ("chosen", "rejected")
_USER, _ASSISTANT = (bytes([CODE[role]]) for role in SPEAKER.values())


def detect(row: Row) -> bool:
    return row.get("prompt") is None and all(
        isinstance(text := row.get(name), str) and is_transcript(text) for name in COLUMNS
    )


def convert(row: Row) -> PreferenceExample:
    """Split at turn markers that begin a paragraph; the last assistant turn is the answer."""
    chosen, rejected = map(parse_transcript, [expect(row.get(name), str) for name in COLUMNS])
    if chosen[-1]["role"] != "assistant" or rejected[-1]["role"] != "assistant":
        raise Rejection("does_not_end_with_assistant")
    if chosen[:-1] != rejected[:-1]:
        raise Rejection("histories_differ")
    return PreferenceExample(read_prompt(chosen[:-1], system=system_of(row)).messages, chosen[-1:], rejected[-1:])


def convert_many(rows: list[Row]) -> PairColumns | None:
    """Convert rows whose two transcripts differ in their last turn and nowhere else."""
    texts: list[str] = []  # messages of all prompts
    roles = bytearray()
    counts: list[int] = []  # messages of each prompt
    chosen: list[str] = []
    rejected: list[str] = []
    for row in rows:
        first, second = row.get("chosen"), row.get("rejected")
        if type(first) is not str or type(second) is not str:
            return None
        border = first.rfind(ANSWER)
        prompt = first[: max(border, 0)]
        if not second.startswith(prompt) or not second.startswith(ANSWER, border):
            return None
        chosen.append(first[border + len(ANSWER) :])
        rejected.append(second[border + len(ANSWER) :])
        before, *rounds = prompt.split(QUESTION)
        if before or not rounds or _has_turn(chosen[-1]) or _has_turn(rejected[-1]):
            return None
        start = len(texts)
        for text in rounds:
            turns = text.split(ANSWER)  # the question, and nearly always one reply
            texts += turns
            roles += _USER + _ASSISTANT * (len(turns) - 1)
        counts.append(len(texts) - start)
    column = MessageColumn(_without_space(texts), bytes(roles), np.array(counts, np.int64))
    if (whole := with_systems(column, systems_of(rows))) is None:
        return None
    answers = (MessageColumn.single_turns(_without_space(some), "assistant") for some in (chosen, rejected))
    return PairColumns(whole, *answers)


def _has_turn(text: str) -> bool:
    # Most answers are one paragraph, and a search for one character is faster than for several.
    return "\n" in text and (QUESTION in text or ANSWER in text)


def _without_space(texts: list[str]) -> list[str]:
    return [text.removeprefix(" ") for text in texts]


HH_RLHF = Converter(
    "hh-rlhf", "Human/Assistant transcripts", detect, convert, (*COLUMNS, SYSTEM), COLUMNS, convert_many
)
