"""Read tool calls, their results and the tools themselves in the spellings that people use."""

from __future__ import annotations

import functools
import re
from typing import Any

from hubdpo.data.pairs.example import Rejection, Row
from hubdpo.data.pairs.extras import CALL_ID, CALLS, json_of
from hubdpo.data.pairs.literals import ARRAY, value_in

UNREADABLE_CALL, UNREADABLE_TOOLS = "unreadable_tool_call", "unreadable_tools"
CALL_ROLES = frozenset(("function_call", "function_calls", "tool_call", "tool_calls"))
"""Roles of turns whose text is the JSON of a call, or of a list of calls (LLaMA-Factory, ms-swift)."""
RESULT_ROLES = (
    "function", "function_response", "function_result", "tool_response", "tool_responses", "tool_result",
    "tool_results", "observation", "ipython",
)  # fmt: skip
"""Other names of the role `tool`."""
MEMBERS = ("tool", "call"), ("tool", "calls"), ("tool", "use"), ("function", "call"), ("function", "calls")
"""First words of members that belong to a call, such as `toolCalls` and `tool_call_id`."""
_OBJECTS = re.compile(rf"\s*{ARRAY}\[?\s*\{{")
"""The beginning of text that holds objects: JSON, or what Python and NumPy print."""
OF_TOOLS = frozenset(("type", "function", "description", "parameters", "input_schema", "inputSchema"))
"""Members of a tool. One that has a name alone may be anything."""
NO_TOOLS = ("", "[]", "{}", "null", "None", "nan")
ARGUMENTS = ("arguments", "parameters", "args", "input")


def is_call_role(name: str) -> bool:
    return name.strip().lower().replace("-", "_") in CALL_ROLES


def call_member(words: tuple[str, ...]) -> str | None:
    """Return what a member with these words in its name is called in a dataset, None if it belongs to no call."""
    if words[:2] not in MEMBERS:
        return None
    if len(words) > 2 and words[2:] != ("id",):
        raise Rejection(UNREADABLE_CALL)
    return CALL_ID if words[2:] else CALLS


def read_calls(value: object) -> list[Any]:
    """Return calls in OpenAI's form, from a list, a call, or the JSON of either, also of `{name, arguments}`."""
    calls = list(map(_call, _objects_in(value, UNREADABLE_CALL)))
    if not calls:
        raise Rejection(UNREADABLE_CALL)
    return calls


def _objects_in(value: object, reason: str) -> list[Row]:
    """Return the objects of a list, or the only one, of which each and the list may be text. Raise Rejection."""
    held = _object_in(value) if isinstance(value, str) else value
    items = held if isinstance(held, list) else [held]
    read = (_object_in(item) if isinstance(item, str) else item for item in items)
    found = [item for item in read if isinstance(item, dict)]
    if len(found) < len(items):
        raise Rejection(reason)
    return found


def _call(call: Row) -> Row:
    function = call.get("function")
    if isinstance(function, dict) and isinstance(function.get("name"), str):
        return call
    name = call.get("name", function)
    if not isinstance(name, str) or not name:
        raise Rejection(UNREADABLE_CALL)
    arguments: object = next((call[key] for key in ARGUMENTS if call.get(key) is not None), {})
    return {**({"id": call["id"]} if call.get("id") else {}), **function_call(name, arguments)}


def function_call(name: object, arguments: object) -> Row:
    return {"type": "function", "function": {"name": name, "arguments": arguments}}


def read_tools(value: object) -> str:
    """Return the JSON of a list of tools, given as a list, one tool, or the JSON of either; "" if there are none.

    A tool `{name, description, parameters}` becomes a `function` as templates expect it. Raise Rejection for what
    looks like tools and cannot be read. Return "" for what `is_tools` does not take for tools.
    """
    if not is_tools(value):
        return ""
    return json_of(list(map(_tool, _objects_in(value, UNREADABLE_TOOLS))))


def is_tools(value: object) -> bool:
    """Return whether a value looks like tools: objects with the members of one, or text that begins as objects do."""
    if isinstance(value, list):
        return bool(value) and all(map(is_tools, value))
    if isinstance(value, str):
        held = _object_in(value)
        return _OBJECTS.match(value) is not None if held is None else is_tools(held)
    return isinstance(value, dict) and not value.keys().isdisjoint(OF_TOOLS)


def is_no_tools(value: object) -> bool:
    """Return whether a value says that there are no tools."""
    return not value or (isinstance(value, str) and value.strip() in NO_TOOLS)


def _tool(tool: Row) -> Row:
    if tool.get("type") is None and isinstance(tool.get("name"), str):
        return {"type": "function", "function": tool}
    if tool.get("type") is None and not isinstance(tool.get("function"), dict):
        raise Rejection(UNREADABLE_TOOLS)
    return tool


@functools.lru_cache(maxsize=256)  # many rows have the same tools
def _object_in(text: str) -> object:
    return value_in(text) if _OBJECTS.match(text) else None
