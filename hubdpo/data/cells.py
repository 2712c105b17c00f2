"""Text cells that hold messages, written as JSON or as Python prints them: what CSV makes of a conversation."""

from __future__ import annotations

import ast
import re
import warnings
from typing import Any

import orjson

from hubdpo.data.messages import CONTENT_KEYS, ROLE_KEYS, first_of, is_call_role, role_of
from hubdpo.data.preference import ROLES, Rejection

OPENERS = frozenset("[{ \t\r\n")
"""What such a text may begin with."""
MOST_PYTHON = 1 << 20
"""Characters of the longest Python literal to parse; JSON has no limit but that of the row."""
_OPENING = re.compile(r"""\s*(?:\[\s*)?\{\s*(['"])(\w+)\1\s*:""")
_LIST = re.compile(
    r"""\s*\[\s*(?:\w+\([\[(]*|\{)\s*(?:role\s*=|['"“”‘’](?:role|from|content|value)['"“”‘’]|['"]\w{0,7}$)"""
)
"""How a list of messages begins, whoever printed it, also one that was cut off."""
_ROLE = re.compile(r"""['"](?:role|from)['"]\s*:""")
_BETWEEN = re.compile(r"""('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")|\}\s+\{""")
"""A text, which stays, or two items without a comma."""


def opened(text: str) -> Any:
    """Return the messages, or the one message, that a text holds; the text itself when it is anything else.

    Raise Rejection for a text that begins as messages do and cannot be read.
    """
    opening = _OPENING.match(text)
    if opening is None or not _ROLE.search(text):
        if _LIST.match(text) and _parsed(text) is None:
            raise Rejection("unreadable_messages")
        return text
    value = _parsed(text)
    if value is None:
        if opening[2] in (*ROLE_KEYS, *CONTENT_KEYS):
            raise Rejection("unreadable_messages")
        return text
    if isinstance(value, dict) and isinstance(value.get("messages"), list):
        if any(held for name, held in value.items() if name != "messages"):
            raise Rejection("unreadable_messages")  # of tools and the like, nothing would be left
        value = value["messages"]
    items = value if isinstance(value, list) else [value]
    return value if items and all(map(_is_message, items)) else text


def _parsed(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        pass
    if len(text) > MOST_PYTHON:
        return None
    # arrays of numpy are printed without commas
    for attempt in (text, _BETWEEN.sub(lambda found: found[1] or "}, {", text)):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of odd escapes
                return ast.literal_eval(attempt.strip())
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            continue
    return None


def _is_message(item: Any) -> bool:
    if not isinstance(item, dict):
        return False
    role = first_of(item, ROLE_KEYS)
    if not isinstance(role, str) or not (role_of(role) in ROLES or is_call_role(role)):
        return False
    return any(name in item for name in (*CONTENT_KEYS, "tool_calls", "function_call"))
