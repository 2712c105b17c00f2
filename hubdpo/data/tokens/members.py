"""What a chat template makes of a conversation beside its text: tool calls, tools and reasoning."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from hubdpo.artefacts.formats.messages import TOOLS, Message
from hubdpo.data.pairs.calls import function_call
from hubdpo.data.pairs.example import Rejection
from hubdpo.data.pairs.extras import CALLS, EXTRA, REASONING, members_of, object_in, whole
from hubdpo.data.tokens.turns import Template

NOT_SHOWN = {
    TOOLS: "template_without_tools", CALLS: "template_without_tool_calls", REASONING: "template_without_reasoning",
}  # fmt: skip
"""Reasons to drop a pair with something that the chat template leaves out."""
ANOTHER_BASE = "take a base whose chat template shows them, such as Qwen/Qwen3-8B"
_NAME = "hubdpo_probe"
_USER, _RESULT = {"role": "user", "content": "what is it?"}, {"role": "tool", "content": "1"}
_CALL = {"id": "a1b2c3d4e", **function_call(_NAME, {})}  # nine letters and digits, as Mistral's templates ask for
_TOOL = {
    "type": "function",
    "function": {"name": _NAME, "description": "a", "parameters": {"type": "object", "properties": {}}},
}


def shown_form(message: Message) -> dict[str, Any]:
    """Return a message as a chat template gets it: arguments that are the JSON of an object become the object.

    As in vLLM: templates write arguments with `tojson`, which would quote text once more.
    """
    if EXTRA not in message:
        return dict(message)
    members = whole(message)
    if CALLS in members:
        members[CALLS] = list(map(_with_object, members[CALLS]))
    return members


def _with_object(call: dict[str, Any]) -> dict[str, Any]:
    function = call.get("function", call)
    arguments = function.get("arguments")
    if not isinstance(arguments, str):
        return call
    parsed = object_in(arguments) if arguments.strip() else {}
    if not isinstance(parsed, dict):
        return call
    function = {**function, "arguments": parsed}
    return {**call, "function": function} if "function" in call else function


def check_is_shown(messages: Sequence[Message], tools: str, left_out: frozenset[str]) -> None:
    """Raise Rejection if a conversation has something that the chat template leaves out."""
    held = {name for message in messages for name in members_of(message)} | ({TOOLS} if tools else set())
    for name, reason in NOT_SHOWN.items():
        if name in held & left_out:
            raise Rejection(reason)


def left_out_by(template: Template) -> frozenset[str]:
    """Return what a template renders chats without: names of NOT_SHOWN.

    A template that refuses all of them may show it in other chats, which it then refuses or renders.
    """
    answered = {"role": "assistant", "content": "It is."}
    chats: dict[str, list[list[dict[str, Any]]]] = {
        TOOLS: [[_USER]],
        CALLS: [
            [_USER, {"role": "assistant", "content": content, CALLS: [_CALL]}, _RESULT, answered]
            for content in (None, "")
        ],
        REASONING: [[_USER, {**answered, REASONING: _NAME}]],
    }
    left_out = set()
    for name, some in chats.items():
        texts = []
        for chat in some:
            with suppress(Rejection):
                texts.append(template(chat, ask=name == TOOLS, tools=[_TOOL] if name == TOOLS else None))
        if texts and not any(_NAME in text for text in texts):
            left_out.add(name)
    return frozenset(left_out)
