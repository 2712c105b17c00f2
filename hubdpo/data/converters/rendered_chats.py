"""Parse texts that a chat template or a transcript has rendered back into messages.

ChatML and `Human:` / `Assistant:` transcripts are parsed. Marks of other templates are only counted (pairs.markers).
"""

from __future__ import annotations

import re

import numpy as np

from hubdpo.artefacts.formats.messages import Message
from hubdpo.data.pairs.example import Rejection, single_turn
from hubdpo.data.pairs.message_column import MAY_BEGIN_SPACE, MAY_END_SPACE, MessageColumn
from hubdpo.data.pairs.messages import turn_of

TURN = re.compile(r"\n\n(Human|Assistant):")
QUESTION, ANSWER = "\n\nHuman:", "\n\nAssistant:"
SPEAKER = {"Human": "user", "Assistant": "assistant"}
CHATML, CHATML_END, END_OF_TEXT = "<|im_start|>", "<|im_end|>", "<|endoftext|>"

_EMPTY_TURN = re.compile(r"\s*(?:<think>\s*</think>\s*)?")
"""An assistant turn that says nothing. Templates end a prompt with an empty thinking block to switch thinking off."""
_OPEN_THINKING = re.compile(r"\s*(<think>\s*)")
_MAY_BEGIN_RENDERED = MAY_BEGIN_SPACE | np.isin(np.arange(256), list(b"<H"))
_MAY_END_RENDERED = MAY_END_SPACE | (np.arange(256) == ord(">"))


def is_chatml(text: str) -> bool:
    return text.lstrip().startswith(CHATML)


def ends_as_chatml(text: str) -> bool:
    return text.rstrip().removesuffix(END_OF_TEXT).rstrip().endswith(CHATML_END)


def is_transcript(text: str) -> bool:
    return text.lstrip().startswith("Human:") and ANSWER in text


def is_rendered(text: str) -> bool:
    """Return whether a text must be parsed."""
    return is_chatml(text) or ends_as_chatml(text) or is_transcript(text)


def any_rendered(column: MessageColumn) -> bool:
    """Return whether any message is rendered. The first and last byte rule out nearly all of them."""
    first, last = column.edges
    suspects = np.flatnonzero(_MAY_BEGIN_RENDERED[first] | _MAY_END_RENDERED[last])
    return any(is_rendered(column.texts[message]) for message in suspects.tolist())


def parse_chat(text: str) -> list[Message]:
    """Parse ChatML or a transcript."""
    return _parse_chatml(text) if is_chatml(text) else parse_transcript(text)


def parse_prompt(text: str) -> tuple[list[Message], str]:
    """Parse a prompt into its turns and the opening of the answer.

    An empty assistant turn at the end is left out. If that turn opens a thinking block, the block is the opening.
    """
    messages = parse_chat(text)
    last = messages[-1]
    if last["role"] != "assistant":
        return messages, ""
    if _EMPTY_TURN.fullmatch(last["content"]):
        return messages[:-1], ""
    opening = _OPEN_THINKING.fullmatch(last["content"])
    return (messages[:-1], opening[1]) if opening else (messages, "")


def parse_answer(text: str, *, transcript_before: bool) -> list[Message]:
    """Parse an answer that continues a rendered prompt, or ends as a rendered answer does; usually one turn."""
    if ends_as_chatml(text) or CHATML in text:
        return _parse_chatml(f"{CHATML}assistant\n{text}")
    if not transcript_before:
        return single_turn("assistant", text)
    if QUESTION in text or ANSWER in text:
        return parse_transcript(ANSWER + text)
    return single_turn("assistant", text.removeprefix(" "))


def parse_transcript(text: str) -> list[Message]:
    """Split at the turn markers that begin a paragraph. Raise Rejection if the text does not begin with one."""
    # The first marker may be at the very start. TURN begins with fixed text, which is several times as fast to find as
    # an optional beginning, so the text gets the blank line instead.
    before, *parts = TURN.split(text if text.startswith((QUESTION, ANSWER)) else "\n\n" + text.lstrip())
    if before.strip() or len(parts) < 4:
        raise Rejection("not_a_transcript")
    return [
        {"role": SPEAKER[speaker], "content": content.removeprefix(" ")}
        for speaker, content in zip(parts[::2], parts[1::2], strict=True)
    ]


def _parse_chatml(text: str) -> list[Message]:
    before, *parts = text.split(CHATML)
    messages: list[Message] = []
    for part in parts:
        role, _, rest = part.partition("\n")
        content, end, after = rest.partition(CHATML_END)
        if (not end and part is not parts[-1]) or after.replace(END_OF_TEXT, "").strip():
            raise Rejection("broken_template")
        messages.append(turn_of(role, content))
    if before.strip():
        raise Rejection("broken_template")
    return messages
