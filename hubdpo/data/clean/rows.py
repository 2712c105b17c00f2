"""Check converted rows: roles in order, nothing empty, answers that differ; strip newlines and redact credentials.

`clean` is the exact check of one pair. `suspects` is the fast one of a whole batch: it reads role codes and first bytes
instead of texts, and names every row that `clean` would change or refuse, with some that it would not.
"""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import numpy.typing as npt

from hubdpo.artefacts.formats.messages import ROLES, Message
from hubdpo.data.pairs.example import STRIPPED, PreferenceExample, Rejection
from hubdpo.data.pairs.extras import CALLS, EXTRA, change_inside, members_of
from hubdpo.data.pairs.message_column import CODE, MAY_BEGIN_SPACE, MAY_END_SPACE, UNKNOWN, Mask, MessageColumn
from hubdpo.secrets import find_secrets, redact

BEFORE = {
    "user": frozenset(("", "assistant")), "assistant": frozenset(("user", "tool")),
    "tool": frozenset(("assistant", "tool")), "system": frozenset[str](),
}  # fmt: skip
"""Roles that may precede each role, after an opening system message; "" is the start of the conversation."""
_START = UNKNOWN + 1
_MAY_FOLLOW = np.array(
    [[previous in BEFORE.get(role, ()) for role in (*ROLES, "?")] for previous in (*ROLES, "?", "")], bool
)
"""BEFORE by role code: [previous role, role]. UNKNOWN is `?`, and _START the start."""
_MAY_END_PROMPT = np.array([role in ("user", "tool") for role in (*ROLES, "?", "")], bool)
_NULL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
"""A NUL in JSON; after another backslash it would be text."""
_LEADING_NEWLINES = re.compile(r"\s*[\r\n]+")

Roles = npt.NDArray[np.integer]


def suspects(prompt: MessageColumn, chosen: MessageColumn, rejected: MessageColumn) -> npt.NDArray[np.intp]:
    """Return the numbers of the rows that `clean` may change or refuse."""
    suspicious, asker = _check_turns(prompt, np.full(len(prompt.counts), _START))
    suspicious |= ~_MAY_END_PROMPT[asker]
    for answers in (chosen, rejected):
        suspicious_answer, last = _check_turns(answers, asker)
        suspicious |= suspicious_answer | (last != CODE["assistant"])
    if not chosen.single or not rejected.single:
        return np.arange(len(suspicious))
    # `clean` compares stripped answers. Those that begin with a space are suspicious already, so two answers can be
    # equal only if they have equal sizes or one of them may end with a space
    may_be_equal = (chosen.sizes == rejected.sizes) | np.logical_or(
        *MAY_END_SPACE[[answers.edges[1] for answers in (chosen, rejected)]]
    )
    for row in np.flatnonzero(may_be_equal & ~suspicious).tolist():
        suspicious[row] = chosen.texts[row].strip() == rejected.texts[row].strip()
    return np.flatnonzero(suspicious)


def _check_turns(column: MessageColumn, previous: Roles) -> tuple[Mask, Roles]:
    """Check role order and contents of a column. `previous` is the role code before each row, (rows,).

    Return whether each row is suspicious, bool (rows,), and the role code of its last message, (rows,).
    """
    if not column.texts:
        return np.ones(len(column.counts), bool), previous
    roles = column.role_codes
    suspicious = _check_contents(column)
    if column.single:
        return suspicious | ~_MAY_FOLLOW[previous, roles], roles
    # from here on arrays are (messages,); `starts` and `stops` delimit the rows that have messages
    filled = column.counts > 0
    starts, stops = column.ends[:-1][filled], column.ends[1:][filled]
    before = np.concatenate([[_START], roles[:-1]])
    before[starts] = previous[filled]
    # an opening system message is allowed, and what follows it counts as the start
    opening = np.zeros(len(roles), bool)
    opening[starts] = (roles[starts] == CODE["system"]) & (before[starts] == _START)
    before[1:][opening[:-1]] = _START
    suspicious |= ~(_MAY_FOLLOW[before, roles] | opening)
    # back to (rows,): a row is suspicious if one of its messages is, or if it has none
    suspicious_rows = np.ones(len(column.counts), bool)
    suspicious_rows[filled] = np.logical_or.reduceat(suspicious, starts)
    last = np.full(len(column.counts), _START)
    last[filled] = roles[stops - 1]
    return suspicious_rows, last


def _check_contents(column: MessageColumn) -> Mask:
    """Return bool (messages,): whether a message is empty, begins with white space or holds a NUL."""
    suspicious: Mask = column.sizes == 0
    for index in np.flatnonzero(MAY_BEGIN_SPACE[column.edges[0]] & ~suspicious).tolist():
        suspicious[index] = column.texts[index][0].isspace()
    if b"\0" in column.blob:
        suspicious |= np.array(["\0" in text for text in column.texts], bool)
    return suspicious


def clean(example: PreferenceExample) -> int:
    """Check a pair, strip newlines before its answers, and return the bits of CHANGES for what was altered.

    Raise Rejection unless the prompt is a conversation that ends with a user or tool turn, the answers continue it with
    the assistant's, no message is empty, and the answers differ. Results of tools and turns with calls may be empty.
    """
    if not example.prompt:
        raise Rejection("empty_prompt")
    if not example.chosen or not example.rejected:
        raise Rejection("empty_answer")
    if _NULL.search(example.tools):
        raise Rejection("null_character")
    last_role = _check_prompt(example.prompt)
    before = example.chosen, example.rejected
    example.chosen, example.rejected = after = _stripped(example.chosen), _stripped(example.rejected)
    for answer in after:
        _check_answer(answer, last_role)
    # white space at the ends of one answer is not a preference
    if len(example.chosen) == len(example.rejected) and all(
        chosen["content"].strip() == rejected["content"].strip()
        and chosen["role"] == rejected["role"]
        and chosen.get(EXTRA) == rejected.get(EXTRA)
        for chosen, rejected in zip(example.chosen, example.rejected, strict=True)
    ):
        raise Rejection("identical_answers")
    return STRIPPED if after != before else 0


def _stripped(answer: list[Message]) -> list[Message]:
    """Return the answer without leading newlines, which would merge with those that the chat template writes."""
    first, *others = answer
    newlines = _LEADING_NEWLINES.match(first["content"])
    return [{**first, "content": first["content"][newlines.end() :]}, *others] if newlines else answer


def _check_prompt(prompt: list[Message]) -> str:
    """Return the role of the last message. Raise Rejection if the prompt is not a conversation to answer."""
    before = ""
    for index, message in enumerate(prompt):
        role, content = message["role"], message["content"]
        if role not in BEFORE:
            raise Rejection("unknown_role")
        if "\0" in content or _NULL.search(message.get(EXTRA, "")):
            raise Rejection("null_character")
        if role == "system" and index == 0:
            continue
        if before not in BEFORE[role]:
            raise Rejection("not_alternating" if before or role == "system" else "does_not_start_with_user")
        if _is_empty(message):
            raise Rejection("empty_prompt")
        before = role
    if before not in ("user", "tool"):
        raise Rejection("prompt_does_not_end_with_user")
    return before


def _check_answer(answer: list[Message], before: str) -> None:
    """Raise Rejection unless the answer continues after the role `before` and ends with the assistant."""
    for message in answer:
        role, content = message["role"], message["content"]
        if role not in BEFORE:
            raise Rejection("unknown_role")
        if before not in BEFORE[role]:
            raise Rejection("does_not_end_with_assistant" if message is answer[0] else "not_alternating")
        if "\0" in content or _NULL.search(message.get(EXTRA, "")):
            raise Rejection("null_character")
        if _is_empty(message):
            raise Rejection("empty_answer")
        before = role
    if before != "assistant":
        raise Rejection("does_not_end_with_assistant")


def _is_empty(message: Message) -> bool:
    return not message["content"].strip() and message["role"] != "tool" and CALLS not in members_of(message)


def redact_credentials(example: PreferenceExample, kept: list[str | None]) -> Counter[str]:
    """Replace each credential in `example` and `kept` by its kind, in place, and count them by kind.

    Those in calls and tools are found in each text of their JSON, so that what is left is JSON; then in all of it, for
    some are told by the name of the member that holds them.
    """
    found: Counter[str] = Counter()

    def clear(text: str) -> str:
        secrets = find_secrets(text)
        found.update(secret.kind for secret in secrets)
        return redact(text, secrets)

    def clear_json(text: str) -> str:
        return clear(change_inside(text, clear))

    def cleared(messages: list[Message]) -> list[Message]:
        return [
            {name: clear_json(text) if name == EXTRA else clear(text) for name, text in message.items()}
            for message in messages
        ]

    example.prompt, example.chosen, example.rejected = map(cleared, (example.prompt, example.chosen, example.rejected))
    example.tools = clear_json(example.tools)
    kept[:] = [text and clear(text) for text in kept]
    return found
