"""Where the assistant's own words begin and end in a rendered conversation of several turns."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hubdpo.artefacts.formats.messages import Message
from hubdpo.data.pairs.example import Rejection

Template = Callable[..., str]
MARK = "\ue000"


@dataclass(frozen=True)
class Turns:
    """What a chat template puts before and after each turn of the assistant."""

    header: str = ""
    end: str = ""
    end_token: str | None = None
    """The control token in `end`."""

    def said(self, text: str, start: int) -> list[tuple[int, int]]:
        """Return `[start, stop)` of each turn of the assistant in a rendered conversation, its end included.

        The first begins at `start`. Empty where header and end hold no control token: a content could spell them.
        """
        spans: list[tuple[int, int]] = []
        if not (self.header and self.end):
            return spans
        at = start
        while at >= 0 and (stop := text.find(self.end, at)) >= 0:
            spans.append((at, stop + len(self.end)))
            found = text.find(self.header, stop)
            at = found + len(self.header) if found >= 0 else -1
        return spans


def turns_of(template: Template, control: re.Pattern[str]) -> Turns:
    """Find out from conversations of two turns what `template` writes around the assistant's."""
    user, assistant = ({"role": role, "content": ""} for role in ("user", "assistant"))
    try:
        last = _around(template, [user, assistant])[-1]
    except Rejection:
        return Turns()
    found = control.search(last)
    end_token = found[0] if found else None
    try:
        before = template(_slots([user]), ask=False)
        asked = template(_slots([user]), ask=True)
        _, first, between, again, end = _around(template, [user, assistant, user, assistant])
    except (Rejection, ValueError):
        return Turns(end_token=end_token)
    prompt = asked[len(before) :] if asked.startswith(before) else ""
    opening = control.match(prompt)
    if opening is None:
        return Turns(end_token=end_token)
    headers = [text[max(text.rfind(opening[0]), 0) :] for text in (first, again)]
    header = os.path.commonprefix([prompt, *headers])
    end = os.path.commonprefix([between, end])
    if not header or not control.search(end):
        return Turns(end_token=end_token)
    return Turns(header, end, end_token)


def _slots(messages: Sequence[Message]) -> list[Message]:
    return [{**message, "content": f"{MARK}{i}{MARK}"} for i, message in enumerate(messages)]


def _around(template: Template, messages: Sequence[Message]) -> list[str]:
    """Return what is written before, between and after the contents."""
    return re.split(f"{MARK}[0-9]+{MARK}", template(_slots(messages), ask=False))
