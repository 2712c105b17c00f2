"""Read messages in the spellings that people use, and find members that are more than text."""

from __future__ import annotations

import functools
import re
from itertools import pairwise
from typing import Any

from hubdpo.artefacts.formats.messages import ROLES, Message
from hubdpo.data.pairs.example import NotText, Rejection, Row

ROLE_OF = {
    "human": "user", "prompter": "user", "gpt": "assistant", "bot": "assistant", "chatbot": "assistant",
    "model": "assistant", "developer": "system",
}  # fmt: skip
"""Other names of roles, in lower case."""
CALL_ROLES = frozenset((
    "function_call", "function", "tool_call", "tool_calls", "tool_response", "tool_result", "observation", "ipython",
))  # fmt: skip
ROLE_KEYS = ("role", "from")
CONTENT_KEYS = ("content", "value", "text")
CALLS = ("tool", "call"), ("tool", "calls"), ("tool", "use"), ("function", "call"), ("function", "calls")
"""First words of members that belong to a tool call, such as `toolCalls` and `tool_call_id`."""
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
    """Return a list of `{role, content}`.

    Keys may also be `from`, `value` and `text`, and content a list of typed parts. Raise Rejection for other values,
    and for messages whose meaning is in other members, such as `tool_calls` and `reasoning_content`.
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
    return [_message(item) for item in value]


def role_of(name: str) -> str:
    """Return the role of a name; an unknown name is returned unchanged."""
    known = name.strip().lower()
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


def is_call_role(name: str) -> bool:
    return name.strip().lower().replace("-", "_") in CALL_ROLES


def _message(item: object) -> Message:
    if not isinstance(item, dict):
        raise Rejection("wrong_type")
    role, content = role_in(item), first_of(item, CONTENT_KEYS)
    if role is None:
        raise Rejection("wrong_type")
    if is_call_role(role) or any(member and is_call(name) for name, member in item.items()):
        raise Rejection("tool_calls")
    if first_of(item, REASONING, empty=False):
        raise Rejection("reasoning_content")
    for name, member in item.items():
        if member and isinstance(name, str) and (kind := media_of(name)):
            raise NotText(kind, f"member `{name}` of a message")
    if isinstance(content, list):
        content = "".join(map(_text_of_part, content)) if content else None
    if not isinstance(content, str):
        raise Rejection("wrong_type")
    return {"role": role, "content": content}


def _text_of_part(part: object) -> str:
    if not isinstance(part, dict) or not isinstance(kind := part.get("type"), str):
        raise Rejection("wrong_type")
    if kind in ("text", "input_text", "output_text"):
        text = first_of(part, CONTENT_KEYS[::-1])
        if not isinstance(text, str):
            raise Rejection("wrong_type")
        return text
    if media := media_of(kind):
        raise NotText(media, f"part of type `{kind}`")
    if "tool" in kind or "function" in kind:
        raise Rejection("tool_calls")
    raise Rejection("reasoning_content" if "thinking" in kind or "reasoning" in kind else "wrong_type")


def is_call(name: object) -> bool:
    """Return whether a member of this name calls a tool or answers a call."""
    return isinstance(name, str) and words_of(name)[:2] in CALLS


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


def first_of(item: Row, names: tuple[str, ...], *, empty: bool = True) -> Any:
    """Return the first of these values that is not None; with `empty=False`, that is not empty either."""
    for name in names:
        value = item.get(name)
        # 0 and False are values
        if value is not None and (empty or value not in ("", [], {})):
            return value
    return None
