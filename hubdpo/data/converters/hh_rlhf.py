"""`hh-rlhf`: transcripts of Anthropic's helpful and harmless data (arXiv 2204.05862)."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from hubdpo.data.columns import CODE, Columns, MessagesColumn
from hubdpo.data.preference import Message, PreferenceExample, Rejection, say, text_of

TURN = re.compile(r"\n\n(Human|Assistant):")
QUESTION, ANSWER = "\n\nHuman:", "\n\nAssistant:"
ROLE = {"Human": "user", "Assistant": "assistant"}
_USER, _ASSISTANT = (bytes([CODE[role]]) for role in ROLE.values())


def detect(row: dict[str, Any]) -> bool:
    return row.get("prompt") is None and is_transcript(row.get("chosen")) and is_transcript(row.get("rejected"))


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
        prompt = _turns(first[:border])[:-1]
        return PreferenceExample(prompt, *(say("assistant", tail.removeprefix(" ")) for tail in tails))
    chosen, rejected = _turns(first), _turns(second)
    if chosen[-1]["role"] != "assistant" or rejected[-1]["role"] != "assistant":
        raise Rejection("does_not_end_with_assistant")
    if chosen[:-1] != rejected[:-1]:
        raise Rejection("histories_differ")
    return PreferenceExample(chosen[:-1], chosen[-1:], rejected[-1:])


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
    return MessagesColumn.of(_bare(texts), bytes(roles), np.array(counts, np.int64)), chosen, rejected


def _has_turn(text: str) -> bool:
    # most answers are one paragraph, and one character is found faster than several
    return "\n" in text and (QUESTION in text or ANSWER in text)


def _bare(texts: list[str]) -> list[str]:
    return [text.removeprefix(" ") for text in texts]


def is_transcript(value: Any) -> bool:
    return isinstance(value, str) and value.lstrip().startswith("Human:") and "\n\nAssistant:" in value


def history(prompt: str) -> list[Message]:
    """Return the turns of a prompt that ends where the assistant is to speak."""
    messages = _turns(prompt)
    if messages[-1]["role"] != "assistant" or messages[-1]["content"].strip():
        raise Rejection("prompt_does_not_end_with_user")
    return messages[:-1]


def _turns(transcript: str) -> list[Message]:
    # the first marker may stand at the very start; a pattern that begins with fixed text is found several times as fast
    before, *parts = TURN.split(transcript if transcript.startswith("\n\n") else "\n\n" + transcript)
    if before.strip() or len(parts) < 4:
        raise Rejection("not_a_transcript")
    return [
        {"role": ROLE[speaker], "content": text.removeprefix(" ")}
        for speaker, text in zip(parts[::2], parts[1::2], strict=True)
    ]
