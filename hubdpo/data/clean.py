"""What a converted row must be to be kept, and what is put right in it."""

from __future__ import annotations

import re

from hubdpo.data.preference import ROLES, Message, PreferenceExample, Rejection

CHANGES = ("stripped_leading_newlines", "redacted_secret", "prompt_cut_by_message")
"""What may be altered in a row that is kept; its place is its bit in the keys."""
STRIPPED, REDACTED, CUT = 1, 2, 4

BEFORE = {
    "user": frozenset(("assistant",)), "assistant": frozenset(("user", "tool")),
    "tool": frozenset(("assistant", "tool")), "system": frozenset[str](),
}  # fmt: skip
"""Who may speak before whom, after the system's first word."""
_LEADING = re.compile(r"\A\s*[\r\n]+")


def clean(example: PreferenceExample) -> int:
    """Check an example, put right what can be, and return the bits of CHANGES.

    Raise Rejection unless the prompt is a conversation that ends with a user or tool turn, the answers are the
    assistant's, nothing is empty, and the answers differ.
    """
    prompt, chosen, rejected = example.prompt, example.chosen, example.rejected
    changes = 0
    if not prompt:
        raise Rejection("empty_prompt")
    if not chosen or not rejected:
        raise Rejection("empty_answer")
    _check_prompt(prompt)
    last = prompt[-1]["role"]
    if chosen[0]["content"][:1].isspace() and (bare := _stripped(chosen)) is not None:
        example.chosen, changes = bare, STRIPPED
    if rejected[0]["content"][:1].isspace() and (bare := _stripped(rejected)) is not None:
        example.rejected, changes = bare, STRIPPED
    _check_answer(example.chosen, last)
    _check_answer(example.rejected, last)
    if _folded(example.chosen) == _folded(example.rejected):
        raise Rejection("identical_answers")
    return changes


def _stripped(answer: list[Message]) -> list[Message] | None:
    """Take leading newlines away: they would melt into the template's own and change the token before the answer."""
    first = answer[0]
    bare = _LEADING.sub("", first["content"])
    return [{**first, "content": bare}, *answer[1:]] if bare != first["content"] else None


def _check_prompt(prompt: list[Message]) -> None:
    before = None
    for place, message in enumerate(prompt):
        role, content = message["role"], message["content"]
        _check_text(role, content)
        if role == "system":
            if place:
                raise Rejection("not_alternating")
            continue
        if before is None:
            if role != "user":
                raise Rejection(
                    "does_not_start_with_user" if place < len(prompt) - 1 else "prompt_does_not_end_with_user"
                )
        elif before not in BEFORE[role]:
            raise Rejection("not_alternating")
        if not content or content.isspace():
            raise Rejection("empty_prompt")
        before = role
    if before not in ("user", "tool"):
        raise Rejection("prompt_does_not_end_with_user")


def _check_answer(answer: list[Message], before: str) -> None:
    if answer[0]["role"] != "assistant" or answer[-1]["role"] != "assistant":
        if any(message["role"] not in ROLES for message in answer):
            raise Rejection("unknown_role")
        raise Rejection("does_not_end_with_assistant")
    for message in answer:
        role, content = message["role"], message["content"]
        _check_text(role, content)
        if before not in BEFORE[role]:
            raise Rejection("not_alternating")
        if not content or content.isspace():
            raise Rejection("empty_answer")
        before = role


def _check_text(role: str, content: str) -> None:
    if role not in BEFORE:
        raise Rejection("unknown_role")
    if "\0" in content:
        raise Rejection("null_character")


def _folded(answer: list[Message]) -> list[tuple[str, str]]:
    # spaces at the end of one answer only are no preference
    return [(message["role"], message["content"].strip()) for message in answer]
