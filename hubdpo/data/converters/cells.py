"""Parse text cells that hold messages as JSON or as Python prints them: what CSV makes of a conversation."""

from __future__ import annotations

import re
from typing import Any

from hubdpo.artefacts.formats.messages import ROLES
from hubdpo.data.pairs.example import Rejection
from hubdpo.data.pairs.literals import ARRAY, DTYPE, value_in
from hubdpo.data.pairs.message_column import SPACES
from hubdpo.data.pairs.messages import CONTENT_KEYS, ROLE_KEYS, role_in

MISSING = frozenset((
    "nan", "NaN", "-nan", "-NaN", "null", "NULL", "None", "<NA>", "NA", "N/A", "n/a", "#NA", "#N/A", "#N/A N/A",
    "1.#IND", "-1.#IND", "1.#QNAN", "-1.#QNAN", r"\N",
))  # fmt: skip
r"""Text that pandas, and so `datasets`, reads as a missing value in any column of a CSV, and MySQL's `\N`."""
OPENERS, ARRAYS = frozenset(("[", "{", "(", '"', "'", *SPACES)), frozenset(("ar", "np", "nu"))
"""The first character, or the first two, of text that may hold messages; other text needs no search."""
MESSAGES = "messages"
MEMBERS = (*CONTENT_KEYS, "tool_calls", "function_call")
"""Members of a message with what it says."""
BEGINS = re.compile(rf"""\s*(?:["']\s*)?{ARRAY}[\[{{(]""")
"""The beginning of text that may hold messages: NumPy and pandas print `array([`, text encoded twice is in quotes."""
_OBJECT = re.compile(rf"""\s*{ARRAY}(?:[\[(]\s*)?\{{\s*(['"])(\w+)\1\s*:""")
"""The beginning of an object, alone or in a list; group 2 is its first key."""
_NAME = r"(?:role|from|content|value)"
_LIST = re.compile(
    rf"""\s*{ARRAY}[\[(]\s*(?:[\w.]+\([\[({{]*|[\[{{]+)\s*"""
    rf"""(?:role\s*=|['"“”‘’]{_NAME}['"“”‘’]|['"]\w{{0,7}}$)"""
)
"""The beginning of a list of messages in any notation, also one that was cut off."""
_QUOTED_LIST = re.compile(rf"""\s*["']\s*{ARRAY}[\[(]\s*\{{\s*\\*["']{_NAME}\\*["']\s*:""")
_ROLE = re.compile(r"""['"](?:role|from)['"]\s*:""")
_STRING = r"""('(?:[^'\\]|\\.)*+'|"(?:[^"\\]|\\.)*+")"""
_ONE_TEXT = re.compile(rf"\s*{ARRAY}\[\s*(?:{_STRING}\s*)?\](?:\s*(?:{DTYPE}\s*)?\))?\s*", re.DOTALL)


def parse_messages_cell(text: str) -> Any:
    """Return the message or messages that a text holds, or the text itself if it holds anything else.

    Raise Rejection for text that begins as messages do and cannot be read.
    """
    if (inner := _unquoted(text)) is not None:
        held = parse_messages_cell(inner)
        return text if held is inner else held
    begins_object, begins_list = _OBJECT.match(text), _LIST.match(text)
    if not begins_list and (begins_object is None or not _ROLE.search(text)):
        return text
    value = value_in(text)
    if value is None:
        if begins_list or (begins_object and begins_object[2] in (MESSAGES, *ROLE_KEYS, *CONTENT_KEYS)):
            raise Rejection("unreadable_messages")
        return text
    if isinstance(value, dict) and isinstance(value.get(MESSAGES), list):
        if any(member for name, member in value.items() if name != MESSAGES):
            raise Rejection("unreadable_messages")  # tools and the like would be lost
        value = value[MESSAGES]
    items = value if isinstance(value, list) else [value]
    if items and all(map(_is_message, items)):
        return value
    if any(_is_message(item) or (isinstance(item, list) and any(map(_is_message, item))) for item in items):
        raise Rejection("unreadable_messages")  # some items are something else, such as `...`
    return text


def single_text_list(text: str) -> list[str] | None:
    """Return the list if a text is a list of one text, such as `['good']`, or an empty list, else None.

    Raise Rejection if the one text cannot be read.
    """
    if (inner := _unquoted(text)) is not None:
        return single_text_list(inner)
    match = _ONE_TEXT.fullmatch(text)
    if match is None:
        return None
    if match[1] is None:
        return []
    value = value_in(match[1])
    if not isinstance(value, str):
        raise Rejection("unreadable_messages")
    return [value]


def is_list_of_texts(text: str) -> bool:
    """Return whether a text is a list of two or more texts, as Python or JSON writes it."""
    if not text.lstrip().startswith("[") or not text.rstrip().endswith("]"):
        return False
    value = value_in(text)
    return isinstance(value, list) and len(value) > 1 and all(isinstance(item, str) for item in value)


def is_object_with_text(text: str) -> bool:
    """Return whether a text is an object with a text, as Python or JSON writes it: `{'text': 'good'}`."""
    value = value_in(text) if text.lstrip().startswith("{") else None
    return isinstance(value, dict) and any(isinstance(value.get(name), str) for name in CONTENT_KEYS)


def _unquoted(text: str) -> str | None:
    """Return the inner text of a list or object that was encoded twice, else None. Raise Rejection if it is cut off."""
    if not text.lstrip().startswith(("'", '"')) or not BEGINS.match(text):
        return None
    value = value_in(text)
    if isinstance(value, str):
        return value
    if _QUOTED_LIST.match(text):
        raise Rejection("unreadable_messages")
    return None


def _is_message(item: object) -> bool:
    if not isinstance(item, dict) or (role := role_in(item)) is None:
        return False
    return role in ROLES and not item.keys().isdisjoint(MEMBERS)
