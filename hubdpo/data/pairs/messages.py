"""Read messages in the spellings that people use, with their tool calls and reasoning."""

from __future__ import annotations

import functools
import re
from itertools import pairwise
from typing import Any

from hubdpo.artefacts.formats.messages import ROLES, Message
from hubdpo.data.pairs.calls import (
    CALL_ROLES,
    RESULT_ROLES,
    UNREADABLE_CALL,
    call_member,
    function_call,
    is_call_role,
    read_calls,
)
from hubdpo.data.pairs.example import NotText, Rejection, Row
from hubdpo.data.pairs.extras import CALL_ID, CALLS, NAME, ReadMessage, members_of, message_with
from hubdpo.data.pairs.extras import REASONING as REASONING_MEMBER

ROLE_OF = {
    "human": "user", "prompter": "user", "gpt": "assistant", "bot": "assistant", "chatbot": "assistant",
    "model": "assistant", "developer": "system", **dict.fromkeys(CALL_ROLES, "assistant"),
    **dict.fromkeys(RESULT_ROLES, "tool"),
}  # fmt: skip
"""Other names of roles, in lower case with underscores."""
ROLE_KEYS = ("role", "from")
CONTENT_KEYS = ("content", "value", "text", "parts")
TEXT_PARTS = ("text", "input_text", "output_text")
REASONING = ("reasoning_content", "reasoning", "thinking")
MEDIA = {
    "image": "image", "images": "image", "img": "image", "imgs": "image", "photo": "image", "photos": "image",
    "picture": "image", "pictures": "image", "pic": "image", "pics": "image", "screenshot": "image",
    "screenshots": "image", "jpg": "image", "jpeg": "image", "png": "image", "video": "video", "videos": "video",
    "mp4": "video", "audio": "audio", "audios": "audio", "wav": "audio", "mp3": "audio",
    "图片": "image", "图像": "image", "视频": "video", "音频": "audio",
}  # fmt: skip
"""Words in the names of columns, members and part types that hold media instead of text."""
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+|[^\W\d_A-Za-z]+")


def messages_of(value: object) -> list[Message]:
    """Return a list of messages.

    Keys may also be `from`, `value` and `text`, and content a list of typed parts. Raise Rejection for other values,
    and for messages whose calls, results or reasoning cannot be read. Messages that were read before stay as they are.
    """
    if not isinstance(value, list):
        raise Rejection("missing_field" if value is None else "wrong_type")
    for item in value:
        if type(item) is not dict or len(item) != 2:
            break
        if item.get("role") not in ROLES or type(item.get("content")) is not str:
            break
    else:
        return value  # the usual case: no other members, so nothing to copy
    messages: list[Message] = []
    for item in value:
        for message in [item] if type(item) is ReadMessage else _messages(item):
            if messages and is_call_role(first_of(item, ROLE_KEYS)) and messages[-1]["role"] == "assistant":
                message = _joined(messages.pop(), message)  # noqa: PLW2901  # a turn for each call
            messages.append(message)
    return messages


def role_of(name: str) -> str:
    """Return the role of a name; an unknown name is returned unchanged."""
    known = name.strip().lower().replace("-", "_")
    return known if known in ROLES else ROLE_OF.get(known, name)


def role_in(message: object) -> str | None:
    """Return the role of a message, or None if a value is not a message or names no role."""
    name = first_of(message, ROLE_KEYS) if isinstance(message, dict) else None
    return role_of(name) if isinstance(name, str) else None


def unknown_roles(value: object) -> list[str]:
    """Return the unknown role names of all messages in a row, at any depth, each once."""
    names: dict[str, None] = {}
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        names |= dict.fromkeys(unknown_roles(item))
    if isinstance(value, dict) and first_of(value, CONTENT_KEYS) is not None:
        name = role_in(value)
        if name is not None and name not in ROLES:
            names[name] = None
    return list(names)


def turn_of(name: str, text: str) -> Message:
    """Return the message of a turn whose role is called `name`; the text of some turns is a call."""
    if is_call_role(name):
        return message_with("assistant", None, {CALLS: read_calls(text)})
    return {"role": role_of(name), "content": text}


def _messages(item: object) -> list[Message]:
    """Return the message that a value is, after those of the results of tools that it holds (Anthropic)."""
    if not isinstance(item, dict):
        raise Rejection("wrong_type")
    name, content = first_of(item, ROLE_KEYS), first_of(item, CONTENT_KEYS)
    if not isinstance(name, str):
        raise Rejection("wrong_type")
    role, members = role_of(name), _members(item)
    results: list[Message] = []
    if isinstance(content, list):
        content = _text_of_parts(content, members, results)
    if is_call_role(name) and CALLS not in members:
        members, content = {**members, CALLS: read_calls(content)}, None
    if role == "tool" and isinstance(caller := item.get(NAME), str) and caller:
        members[NAME] = caller
    if not isinstance(content, str) and (content is not None or CALLS not in members):
        if results:
            return results
        raise Rejection("wrong_type")
    return [*results, message_with(role, content, members)]


def _members(item: Row) -> dict[str, Any]:
    """Return the members of a message beside its role and text, under their names in a dataset."""
    members: dict[str, Any] = {}
    for name, value in item.items():
        if not value or not isinstance(name, str):
            continue
        if known := call_member(words_of(name)):
            members[known] = read_calls(value) if known == CALLS else value
        elif kind := media_of(name):
            raise NotText(kind, f"member `{name}` of a message")
    if reasoning := next(filter(None, map(item.get, REASONING)), None):
        if not isinstance(reasoning, str):
            raise Rejection("reasoning_content")
        members[REASONING_MEMBER] = reasoning
    return members


def _joined(message: Message, call: Message) -> Message:
    """Put the calls of a turn into the assistant's turn before it."""
    before = members_of(message)
    calls = [*before.get(CALLS, []), *members_of(call)[CALLS]]
    return message_with("assistant", message["content"] or None, {**before, CALLS: calls})


def _text_of_parts(parts: list[Any], members: dict[str, Any], results: list[Message]) -> str | None:
    """Return the text of typed parts. Put calls and reasoning among them into `members`, results into `results`."""
    texts: list[str] = []
    for part in parts:
        kind = part.get("type", "text" if part.keys() == {"text"} else None) if isinstance(part, dict) else None
        if not isinstance(kind, str):  # Gemini's parts have no type
            raise Rejection("wrong_type")
        if kind in TEXT_PARTS:
            text = first_of(part, CONTENT_KEYS[::-1])
            if not isinstance(text, str):
                raise Rejection("wrong_type")
            texts.append(text)
        elif media := media_of(kind):
            raise NotText(media, f"part of type `{kind}`")
        elif kind == "tool_use" and isinstance(part.get("name"), str):
            call = function_call(part["name"], part.get("input") or {})
            members.setdefault(CALLS, []).append({**({"id": part["id"]} if part.get("id") else {}), **call})
        elif kind == "tool_result":
            held = part.get("content")
            text = _text_of_parts(held, {}, []) if isinstance(held, list) else held
            if not isinstance(text, str):
                raise Rejection(UNREADABLE_CALL)
            of = part.get("tool_use_id")
            results.append(message_with("tool", text, {CALL_ID: of} if of else {}))
        elif "tool" in kind or "function" in kind:
            raise Rejection(UNREADABLE_CALL)
        elif kind == "thinking" and isinstance(part.get("thinking"), str):
            members[REASONING_MEMBER] = members.get(REASONING_MEMBER, "") + part["thinking"]
        else:
            raise Rejection("reasoning_content" if "thinking" in kind or "reasoning" in kind else "wrong_type")
    return "".join(texts) if texts else None


def media_of(name: str) -> str | None:
    """Return `image`, `video` or `audio` if the name of a column, member or type has a word for it."""
    words = words_of(name)
    # `mp3` is two words, as `response1` is
    with_digit = (word + digit for word, digit in pairwise(words) if digit.isdigit())
    return next((MEDIA[word] for word in (*words, *with_digit) if word in MEDIA), None)


@functools.lru_cache(maxsize=4096)
def words_of(name: str) -> tuple[str, ...]:
    """Return the words and numbers of a name in lower case: the same for `responseA`, `response_a` and `Response A`."""
    return tuple(word.lower() for word in _WORD.findall(name))


def first_of(item: Row, names: tuple[str, ...]) -> Any:
    """Return the first of these values that is not None: 0 and False are values."""
    for name in names:
        if (value := item.get(name)) is not None:
            return value
    return None
