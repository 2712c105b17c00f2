"""What a converted row must be to be kept, and what is put right in it."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from hubdpo.artefacts.formats.messages import ROLES, Message
from hubdpo.data.pairs.changes import STRIPPED
from hubdpo.data.pairs.example import PreferenceExample, Rejection
from hubdpo.data.pairs.message_column import CODE, UNKNOWN, MessagesColumn
from hubdpo.data.pairs.spaces import MAY_BEGIN_SPACE, MAY_END_SPACE

BEFORE = {
    "user": frozenset(("", "assistant")), "assistant": frozenset(("user", "tool")),
    "tool": frozenset(("assistant", "tool")), "system": frozenset[str](),
}  # fmt: skip
"""Who may speak before whom, after the system's first word; the empty text is the beginning."""
_START = UNKNOWN + 1
_MAY_FOLLOW = np.array(
    [[speaker in BEFORE.get(role, ()) for role in (*ROLES, "?")] for speaker in (*ROLES, "?", "")], bool
)
"""BEFORE as a table: [who spoke, who speaks]."""
_ASKS = np.array([role in ("user", "tool") for role in (*ROLES, "?", "")], bool)
_LEADING = re.compile(r"\A\s*[\r\n]+")


def suspects(prompt: MessagesColumn, chosen: MessagesColumn, rejected: MessagesColumn) -> Any:
    """Return the rows that `clean` may change or refuse: a fast look at many before the exact one at few."""
    flagged, last = _turns(prompt, np.full(len(prompt.counts), _START))
    flagged |= ~_ASKS[last]
    for answers in (chosen, rejected):
        bad, end = _turns(answers, last)
        flagged |= bad | (end != CODE["assistant"])
    if not chosen.single or not rejected.single:
        return np.arange(len(flagged))
    # texts that begin with a space are flagged already: without one at the end either, equal texts have equal sizes
    alike = (chosen.sizes == rejected.sizes) | np.logical_or(
        *MAY_END_SPACE[[answers.edges[1] for answers in (chosen, rejected)]]
    )
    for row in np.flatnonzero(alike & ~flagged).tolist():
        flagged[row] = chosen.texts[row].strip() == rejected.texts[row].strip()
    return np.flatnonzero(flagged)


def _turns(column: MessagesColumn, before: Any) -> tuple[Any, Any]:
    """Return bool (rows,), what may be wrong, and (rows,) who spoke last; `before` is who spoke before."""
    if not column.texts:
        return np.ones(len(column.counts), bool), before
    roles = np.frombuffer(column.roles, np.uint8)
    strange = _strange(column)
    if column.single:
        return strange | ~_MAY_FOLLOW[before, roles], roles
    some = column.counts > 0
    starts, stops = column.ends[:-1][some], column.ends[1:][some]
    speaker = np.concatenate([[_START], roles[:-1]])
    speaker[starts] = before[some]
    # the system's first word stands before the beginning
    opening = np.zeros(len(roles), bool)
    opening[starts] = (roles[starts] == CODE["system"]) & (before[some] == _START)
    speaker[1:][opening[:-1]] = _START
    strange |= ~(_MAY_FOLLOW[speaker, roles] | opening)
    bad = np.ones(len(column.counts), bool)
    bad[some] = np.logical_or.reduceat(strange, starts)
    last = np.full(len(column.counts), _START)
    last[some] = roles[stops - 1]
    return bad, last


def _strange(column: MessagesColumn) -> Any:
    """Return bool (messages,): empty, begun with a space, or with a NUL inside."""
    strange = column.sizes == 0
    for place in np.flatnonzero(MAY_BEGIN_SPACE[column.edges[0]] & ~strange).tolist():
        strange[place] = column.texts[place][0].isspace()
    if b"\0" in column.blob:
        strange |= np.array(["\0" in text for text in column.texts], bool)
    return strange


def clean(example: PreferenceExample) -> int:
    """Check an example, put right what can be, and return the bits of CHANGES that were.

    Raise Rejection unless the prompt is a conversation that ends with a user or tool turn, the answers are the
    assistant's, nothing is empty, and the answers differ.
    """
    prompt, chosen, rejected = example.prompt, example.chosen, example.rejected
    if not prompt:
        raise Rejection("empty_prompt")
    if not chosen or not rejected:
        raise Rejection("empty_answer")
    last = _check_prompt(prompt)
    changes = 0
    if chosen[0]["content"][:1].isspace() and (bare := _stripped(chosen)) is not None:
        chosen = example.chosen = bare
        changes = STRIPPED
    if rejected[0]["content"][:1].isspace() and (bare := _stripped(rejected)) is not None:
        rejected = example.rejected = bare
        changes = STRIPPED
    _check_answer(chosen, last)
    _check_answer(rejected, last)
    # spaces at the ends of one answer only are no preference
    if len(chosen) == len(rejected) and all(
        one["content"].strip() == other["content"].strip() and one["role"] == other["role"]
        for one, other in zip(chosen, rejected, strict=True)
    ):
        raise Rejection("identical_answers")
    return changes


def _stripped(answer: list[Message]) -> list[Message] | None:
    """Take leading newlines away: they would melt into the template's own and change the token before the answer."""
    first = answer[0]
    bare = _LEADING.sub("", first["content"])
    return [{**first, "content": bare}, *answer[1:]] if bare != first["content"] else None


def _check_prompt(prompt: list[Message]) -> str:
    """Return the role of the last turn."""
    before = ""
    for place, message in enumerate(prompt):
        role, content = message["role"], message["content"]
        if role not in BEFORE:
            raise Rejection("unknown_role")
        if "\0" in content:
            raise Rejection("null_character")
        if role == "system" and not place:
            continue
        if before not in BEFORE[role]:
            raise Rejection("not_alternating" if before or role == "system" else "does_not_start_with_user")
        if not content or content.isspace():
            raise Rejection("empty_prompt")
        before = role
    if before not in ("user", "tool"):
        raise Rejection("prompt_does_not_end_with_user")
    return before


def _check_answer(answer: list[Message], before: str) -> None:
    for message in answer:
        role, content = message["role"], message["content"]
        if role not in BEFORE:
            raise Rejection("unknown_role")
        if before not in BEFORE[role]:
            raise Rejection("does_not_end_with_assistant" if message is answer[0] else "not_alternating")
        if "\0" in content:
            raise Rejection("null_character")
        if not content or content.isspace():
            raise Rejection("empty_answer")
        before = role
    if before != "assistant":
        raise Rejection("does_not_end_with_assistant")
