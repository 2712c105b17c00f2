"""Texts that a chat template, or a transcript, has already made of a conversation: taken apart.

ChatML and `Human:` / `Assistant:` transcripts are. Of any other template the marks are counted (hubdpo.data.markers).
"""

from __future__ import annotations

import re

import numpy as np

from hubdpo.artefacts.formats.messages import Message
from hubdpo.data.pairs.example import Rejection
from hubdpo.data.pairs.message_column import MessagesColumn
from hubdpo.data.pairs.messages import role_of
from hubdpo.data.pairs.spaces import MAY_BEGIN_SPACE, MAY_END_SPACE

TURN = re.compile(r"\n\n(Human|Assistant):")
QUESTION, ANSWER = "\n\nHuman:", "\n\nAssistant:"
SPEAKER = {"Human": "user", "Assistant": "assistant"}
CHATML, CHATML_END, END_OF_TEXT = "<|im_start|>", "<|im_end|>", "<|endoftext|>"

_NOTHING = re.compile(r"\s*(?:<think>\s*</think>\s*)?")
"""An assistant's turn in which nothing is said: an empty block of thinking belongs to how a template asks."""
_THINKS = re.compile(r"\s*(<think>\s*)")
_MAY_BEGIN_RENDERED = MAY_BEGIN_SPACE | np.isin(np.arange(256), list(b"<H"))
_MAY_END_RENDERED = MAY_END_SPACE | (np.arange(256) == ord(">"))


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
    """Take ChatML or a transcript apart."""
    return _chatml(text) if is_chatml(text) else transcript(text)


def asked(text: str) -> tuple[list[Message], str]:
    """Take a prompt apart; return its turns, without one that the assistant is to speak, and how the answer begins.

    An answer begins as the prompt ends where that has opened a block of thinking.
    """
    messages = turns_of(text)
    last = messages[-1]
    if last["role"] != "assistant":
        return messages, ""
    if _NOTHING.fullmatch(last["content"]):
        return messages[:-1], ""
    opens = _THINKS.fullmatch(last["content"])
    return (messages[:-1], opens[1]) if opens else (messages, "")


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
    before, *parts = TURN.split(text if text.startswith((QUESTION, ANSWER)) else "\n\n" + text.lstrip())
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
