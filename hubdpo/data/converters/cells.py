"""Text cells that hold messages, written as JSON or as Python prints them: what CSV makes of a conversation."""

from __future__ import annotations

import ast
import re
import warnings
from typing import Any

import orjson

from hubdpo.artefacts.formats.messages import ROLES
from hubdpo.data.pairs.example import Rejection
from hubdpo.data.pairs.message_column import SPACES
from hubdpo.data.pairs.messages import CONTENT_KEYS, ROLE_KEYS, first_of, is_call_role, role_of

OPENERS, ARRAYS = frozenset(("[", "{", "(", '"', "'", *SPACES)), frozenset(("ar", "np", "nu"))
"""What such a text may begin with, one character or two: only texts that do cost more than a look into these."""
MOST_PYTHON = 1 << 20
"""Characters of the longest Python literal to parse; JSON has no limit but that of the row."""
MESSAGES = "messages"
_ARRAY = r"(?:(?:np\.|numpy\.)?array\(\s*)?"
_DTYPE = r""",\s*dtype=[\w.'"<>]+(?=\s*\))"""
BEGINS = re.compile(rf"""\s*(?:["']\s*)?{_ARRAY}[\[{{(]""")
"""How such a text begins: NumPy and pandas print `array([`, and what was encoded twice stands in quotes."""
_OPENING = re.compile(rf"""\s*{_ARRAY}(?:[\[(]\s*)?\{{\s*(['"])(\w+)\1\s*:""")
_NAME = r"(?:role|from|content|value)"
_LIST = re.compile(
    rf"""\s*{_ARRAY}[\[(]\s*(?:[\w.]+\([\[({{]*|[\[{{]+)\s*"""
    rf"""(?:role\s*=|['"“”‘’]{_NAME}['"“”‘’]|['"]\w{{0,7}}$)"""
)
"""How a list of messages begins, whoever printed it, also one that was cut off."""
_QUOTED_LIST = re.compile(rf"""\s*["']\s*{_ARRAY}[\[(]\s*\{{\s*\\*["']{_NAME}\\*["']\s*:""")
_ROLE = re.compile(r"""['"](?:role|from)['"]\s*:""")
_TEXT = r"""('(?:[^'\\]|\\.)*+'|"(?:[^"\\]|\\.)*+")"""
_TO_ITS_END = r"""('(?:[^'\\]|\\.)*+(?:'|\\?\Z)|"(?:[^"\\]|\\.)*+(?:"|\\?\Z))"""
_PRINTED = re.compile(rf"{_TO_ITS_END}|(\}}\s+\{{)|(\b(?:np\.|numpy\.)?array\()|{_DTYPE}", re.DOTALL)
"""A text, which stays; two items without a comma; what stands before and behind the list of an array.

Searched for, so that each place of a text is looked at once: a text that is not closed goes on to the end.
"""
_ONE_TEXT = re.compile(rf"\s*{_ARRAY}\[\s*(?:{_TEXT}\s*)?\](?:\s*(?:{_DTYPE}\s*)?\))?\s*", re.DOTALL)


def parse_messages_cell(text: str) -> Any:
    """Return the messages, or the one message, that a text holds; the text itself when it is anything else.

    Raise Rejection for a text that begins as messages do and cannot be read.
    """
    if (inner := _unquoted(text)) is not None:
        held = parse_messages_cell(inner)
        return text if held is inner else held
    opening, begins_list = _OPENING.match(text), _LIST.match(text)
    if not begins_list and (opening is None or not _ROLE.search(text)):
        return text
    value = _parsed(text)
    if value is None:
        if begins_list or (opening and opening[2] in (MESSAGES, *ROLE_KEYS, *CONTENT_KEYS)):
            raise Rejection("unreadable_messages")
        return text
    if isinstance(value, dict) and isinstance(value.get(MESSAGES), list):
        if any(held for name, held in value.items() if name != MESSAGES):
            raise Rejection("unreadable_messages")  # of tools and the like, nothing would be left
        value = value[MESSAGES]
    items = value if isinstance(value, list) else [value]
    if items and all(map(_is_message, items)):
        return value
    if any(_is_message(item) or (isinstance(item, list) and any(map(_is_message, item))) for item in items):
        raise Rejection("unreadable_messages")  # as where `...` stands for some of them
    return text


def single_text_list(text: str) -> list[str] | None:
    """Return the list that a text holds when it is one of a single text or of nothing, as `['good']`; None if not.

    Raise Rejection for a text that cannot be read.
    """
    if (inner := _unquoted(text)) is not None:
        return single_text_list(inner)
    found = _ONE_TEXT.fullmatch(text)
    if found is None:
        return None
    if found[1] is None:
        return []
    value = _parsed(found[1])
    if not isinstance(value, str):
        raise Rejection("unreadable_messages")
    return [value]


def is_list_of_texts(text: str) -> bool:
    """Tell whether a text is a list of two or more texts, as Python or JSON writes it."""
    if not text.lstrip().startswith("[") or not text.rstrip().endswith("]"):
        return False
    found = _parsed(text)
    return isinstance(found, list) and len(found) > 1 and all(isinstance(item, str) for item in found)


def _unquoted(text: str) -> str | None:
    """Return the text of a list or object that was encoded twice, or None. Raise Rejection for messages cut off."""
    if not text.lstrip().startswith(("'", '"')) or not BEGINS.match(text):
        return None
    value = _parsed(text)
    if isinstance(value, str):
        return value
    if _QUOTED_LIST.match(text):
        raise Rejection("unreadable_messages")
    return None


def _parsed(text: str) -> Any:
    """Return the JSON value that a text holds as JSON or as a Python literal, None when it holds none.

    What JSON cannot hold, half of a surrogate pair among it, is nothing that could be written.
    """
    text = text.strip()
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        pass
    if len(text) > MOST_PYTHON:
        return None
    for attempt in (text, _PRINTED.sub(_as_literal, text)):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of odd escapes
                return orjson.loads(orjson.dumps(ast.literal_eval(attempt), option=orjson.OPT_NON_STR_KEYS))
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            continue
    return None


def _as_literal(found: re.Match[str]) -> str:
    """Write what NumPy prints, arrays and items without commas, as Python does."""
    return found[1] or (found[2] and "}, {") or (found[3] and "(") or ""


def _is_message(item: Any) -> bool:
    if not isinstance(item, dict):
        return False
    role = first_of(item, ROLE_KEYS)
    if not isinstance(role, str) or not (role_of(role) in ROLES or is_call_role(role)):
        return False
    return any(name in item for name in (*CONTENT_KEYS, "tool_calls", "function_call"))


MISSING = frozenset((
    "nan", "NaN", "-nan", "-NaN", "null", "NULL", "None", "<NA>", "NA", "N/A", "n/a", "#NA", "#N/A", "#N/A N/A",
    "1.#IND", "-1.#IND", "1.#QNAN", "-1.#QNAN", r"\N",
))  # fmt: skip
r"""What pandas, and so `datasets`, reads as a missing value in every column of a CSV, and `\N`, which MySQL writes."""
