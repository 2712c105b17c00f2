"""What a converted row must be to be kept, and what is put right in it."""

from __future__ import annotations

import hashlib

from hubdpo.data.preference import ROLES, Message, PreferenceExample, Rejection


def clean(example: PreferenceExample) -> tuple[PreferenceExample, list[str]]:
    """Return the example as it will be written, and the codes of what was changed in it.

    Raise Rejection unless the prompt is a conversation that ends with a user or tool turn, the answers are the
    assistant's, nothing is empty, and the answers differ.
    """
    changes: list[str] = []
    chosen, rejected = (_strip_newlines(answer, changes) for answer in (example.chosen, example.rejected))
    prompt = example.prompt
    if not prompt:
        raise Rejection("empty_prompt")
    for message in (*prompt, *chosen, *rejected):
        if message["role"] not in ROLES:
            raise Rejection("unknown_role")
        if "\0" in message["content"]:
            raise Rejection("null_character")
    if not chosen or not rejected:
        raise Rejection("empty_answer")
    if prompt[-1]["role"] not in ("user", "tool"):
        raise Rejection("prompt_does_not_end_with_user")
    for answer in (chosen, rejected):
        if answer[0]["role"] != "assistant" or answer[-1]["role"] != "assistant":
            raise Rejection("does_not_end_with_assistant")
        _check_alternates([*prompt, *answer])
        if any(not message["content"].strip() for message in answer):
            raise Rejection("empty_answer")
    if any(not message["content"].strip() for message in prompt if message["role"] != "system"):
        raise Rejection("empty_prompt")
    if _folded(chosen) == _folded(rejected):
        raise Rejection("identical_answers")
    return PreferenceExample(prompt, chosen, rejected), sorted(set(changes))


def pair_key(example: PreferenceExample) -> bytes:
    """Return 16 bytes that are equal for equal pairs (BLAKE2b)."""
    digest = hashlib.blake2b(digest_size=16)
    for part in (example.prompt, example.chosen, example.rejected):
        for message in part:
            for text in (message["role"], message["content"]):
                data = text.encode()
                digest.update(len(data).to_bytes(8, "little") + data)
        digest.update(b"\xff" * 8)
    return digest.digest()


def _strip_newlines(answer: list[Message], changes: list[str]) -> list[Message]:
    # a leading newline would melt into the template's own and change the token before the answer
    if answer and answer[0]["content"][:1] in ("\n", "\r"):
        changes.append("stripped_leading_newlines")
        return [{**answer[0], "content": answer[0]["content"].lstrip("\r\n")}, *answer[1:]]
    return answer


def _check_alternates(messages: list[Message]) -> None:
    turns = messages[1:] if messages[0]["role"] == "system" else messages
    if not turns or turns[0]["role"] != "user":
        raise Rejection("does_not_start_with_user")
    before = {"user": ("assistant",), "assistant": ("user", "tool"), "tool": ("assistant", "tool"), "system": ()}
    for last, message in zip(turns, turns[1:], strict=False):
        if last["role"] not in before[message["role"]]:
            raise Rejection("not_alternating")


def _folded(answer: list[Message]) -> list[tuple[str, str]]:
    # spaces at the end of one answer only are no preference
    return [(message["role"], message["content"].strip()) for message in answer]
