"""Find the assistant's turns in a rendered conversation."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hubdpo.artefacts.formats.messages import Message
from hubdpo.data.pairs.example import Rejection

Template = Callable[..., str]
MARK = "\ue000"
"""What encloses the number of a slot: a private-use character, which no template writes."""


@dataclass(frozen=True)
class Turns:
    """The text that a chat template writes before and after each turn of the assistant.

    `header` and `end` are empty unless both hold a control token: without one, a message could spell them.
    """

    header: str = ""
    end: str = ""
    end_token: str | None = None
    """The control token in `end`."""

    def spans(self, text: str, start: int) -> list[tuple[int, int]]:
        """Return `[start, stop)`, in characters, of each turn of the assistant in a rendered conversation.

        The first turn begins at `start`; a turn includes its `end`. Empty if `header` and `end` are.
        """
        spans: list[tuple[int, int]] = []
        if not (self.header and self.end):
            return spans
        at = start
        while at >= 0 and (stop := text.find(self.end, at)) >= 0:
            spans.append((at, stop + len(self.end)))
            header = text.find(self.header, stop)
            at = header + len(self.header) if header >= 0 else -1
        return spans


def turns_of(template: Template, control: re.Pattern[str]) -> Turns:
    """Render two short conversations, and read off what `template` writes around the assistant's turns."""
    try:
        after_answer = _around(template, ["user", "assistant"])[-1]
    except Rejection:
        return Turns()
    found = control.search(after_answer)
    unknown = Turns(end_token=found[0] if found else None)
    try:
        before, asked = (template(slots(["user"]), ask=ask) for ask in (False, True))
        _, first, between, second, end = _around(template, ["user", "assistant"] * 2)
    except (Rejection, ValueError):
        return unknown
    generation_prompt = asked[len(before) :] if asked.startswith(before) else ""
    opening = control.match(generation_prompt)
    if opening is None:
        return unknown
    # the header is what the generation prompt and the text before both answers have in common from its control token on
    headers = [text[max(text.rfind(opening[0]), 0) :] for text in (first, second)]
    header = os.path.commonprefix([generation_prompt, *headers])
    end = os.path.commonprefix([between, end])
    if not header or not control.search(end):
        return unknown
    return Turns(header, end, unknown.end_token)


def turns_by_rendering(
    template: Template, messages: Sequence[Mapping[str, Any]], count: int, whole: str
) -> list[tuple[int, int]]:
    """Return `[start, stop)`, in characters of `whole`, of each turn of the assistant from message `count` on.

    `whole` is all messages rendered. A turn starts where the messages before it end in their generation prompt, and
    stops where they end with it. Raise Rejection where the template writes more messages otherwise than fewer.
    """
    spans = []
    for i in range(count, len(messages)):
        if messages[i]["role"] != "assistant":
            continue
        try:
            before, after = template(messages[:i], ask=True), template(messages[: i + 1], ask=False)
        except Rejection:
            raise Rejection("turns_not_told_apart") from None
        if not (after.startswith(before) and whole.startswith(after)):
            raise Rejection("turns_not_told_apart")
        spans.append((len(before), len(after)))
    return spans


def slots(roles: Sequence[str]) -> list[Message]:
    """Return messages with numbers for contents, which can be found in the rendered text."""
    return [{"role": role, "content": f"{MARK}{i}{MARK}"} for i, role in enumerate(roles)]


def _around(template: Template, roles: Sequence[str]) -> list[str]:
    """Return the rendered text before, between and after the contents, one string more than there are messages."""
    return re.split(f"{MARK}[0-9]+{MARK}", template(slots(roles), ask=False))
