"""What a row holds beside text: tool calls, the names and ids of their results, reasoning, and the tools themselves.

On its way to a dataset a message has text for `role` and `content`, and `extra` if it has more: the JSON of its other
members, and of `content` where that is null. So code that reads text needs to know nothing of them. All extras of a row
travel in one text beside its messages, which is empty for nearly all rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import orjson

from hubdpo.artefacts.formats.messages import COLUMNS, TOOLS, Message
from hubdpo.data.pairs.example import PreferenceExample, Rejection

EXTRA = "extra"
CALLS, CALL_ID, NAME, REASONING = "tool_calls", "tool_call_id", "name", "reasoning_content"
KINDS = (TOOLS, CALLS, REASONING, "other")
"""What is counted of rows with extras. Each name is a bit in the row keys, from the lowest."""

_AROUND = 4
"""Levels of lists and objects that may come around a value: orjson nests no deeper than 254."""
_MANY = 200


def dumped(value: object) -> str:
    return str(orjson.dumps(value), "utf-8")


def json_of(value: object) -> str:
    """Return the JSON of a value in a row. Raise Rejection if it has none, or is nested too deep to be handled."""
    nested = value
    for _ in range(_AROUND):
        nested = [nested]
    try:
        return str(orjson.dumps(nested, default=str)[_AROUND:-_AROUND], "utf-8")
    except TypeError:
        raise Rejection("wrong_type") from None


class ReadMessage(dict[str, str]):
    """A message with `extra`: no row has a value of this type, so it is known that it was read already."""


def message_with(role: str, content: str | None, members: Mapping[str, object]) -> Message:
    """Return a message with further members; one without text and without members has null for its content."""
    held = {**({"content": None} if content is None else {}), **members}
    message = {"role": role, "content": content or ""}
    return ReadMessage(message, **{EXTRA: json_of(held)}) if held else message


def members_of(message: Message) -> dict[str, Any]:
    """Return the members beside role and text."""
    members: dict[str, Any] = orjson.loads(message[EXTRA]) if EXTRA in message else {}
    return members


def whole(message: Message) -> dict[str, Any]:
    """Return a message as a dataset holds it."""
    return {"role": message["role"], "content": message["content"], **members_of(message)}


def packed(value: Mapping[str, Any] | str) -> Message:
    """Return a message of a dataset, or the JSON of one, as it was on its way there."""
    held: Mapping[str, Any] = orjson.loads(value) if isinstance(value, str) else value
    if len(held) == 2 and isinstance(held.get("content"), str):
        return held  # type: ignore[return-value]  # a message already
    more = {name: member for name, member in held.items() if name not in ("role", "content") and member is not None}
    return message_with(held["role"], held.get("content"), more)


def prompt_of(row: Mapping[str, Any]) -> tuple[list[Message], str]:
    """Return the prompt of a row of a dataset, and its tools as the JSON of a list, "" if there are none."""
    held = row.get(TOOLS)  # a column of this name may have been kept as text
    tools = [tool if isinstance(tool, str) else dumped(tool) for tool in (held if isinstance(held, list) else ())]
    return list(map(packed, row["prompt"])), f"[{','.join(tools)}]" if tools else ""


def example_of(row: Mapping[str, Any]) -> PreferenceExample:
    """Return the pair of a row of a dataset."""
    prompt, tools = prompt_of(row)
    chosen, rejected = (list(map(packed, row[name])) for name in COLUMNS[1:])
    return PreferenceExample(prompt, chosen, rejected, tools=tools)


def pack(example: PreferenceExample) -> str:
    """Return all extras of a pair in one text, "" if it has none."""
    parts: dict[str, object] = {TOOLS: example.tools} if example.tools else {}
    for name in COLUMNS:
        extras = {str(at): message[EXTRA] for at, message in enumerate(getattr(example, name)) if EXTRA in message}
        parts |= {name: extras} if extras else {}
    return dumped(parts) if parts else ""


def unpack(packed_extras: str) -> dict[str, Any]:
    """Return what `pack` has packed: the tools, and by column the extra of each message that has one."""
    parts: dict[str, Any] = orjson.loads(packed_extras) if packed_extras else {}
    return parts


def with_extras(example: PreferenceExample, packed_extras: str) -> PreferenceExample:
    """Put the extras of a pair back into its messages."""
    parts = unpack(packed_extras)
    example.tools = parts.pop(TOOLS, "")
    for name, extras in parts.items():
        for at, extra in extras.items():
            getattr(example, name)[int(at)][EXTRA] = extra
    return example


def by_column(packed_extras: Sequence[str], *, tools: bool = True) -> dict[str, dict[int, bytes]]:
    """Return the extras of many rows by column and row number; the tools belong to the prompt, unless left out."""
    columns: dict[str, dict[int, bytes]] = {name: {} for name in COLUMNS}
    also = (TOOLS,) if tools else ()
    for row, text in enumerate(packed_extras):
        if not text:
            continue  # nearly always
        parts = unpack(text)
        for name in COLUMNS:
            if own := [parts[part] for part in ((*also, name) if name == COLUMNS[0] else (name,)) if part in parts]:
                columns[name][row] = orjson.dumps(own)
    return columns


def texts_in(packed_extras: str) -> dict[str, list[str]]:
    """Return the texts in the extras of a pair by column, names of members included, without those of the tools."""
    parts = unpack(packed_extras)
    return {name: list(_texts([orjson.loads(extra) for extra in parts.get(name, {}).values()])) for name in COLUMNS}


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, dict)):
        for item in value if isinstance(value, list) else (*value, *value.values()):
            yield from _texts(item)


def kinds_of(packed_extras: str) -> int:
    """Return the bits of KINDS for what a pair has."""
    parts = unpack(packed_extras)
    names = {name for column in COLUMNS for extra in parts.get(column, {}).values() for name in orjson.loads(extra)}
    held = (TOOLS in parts, CALLS in names, REASONING in names, bool(names - {"content", CALLS, REASONING}))
    return sum(has << bit for bit, has in enumerate(held))


def map_texts(value: Any, change: Callable[[str], str]) -> Any:
    """Return a JSON value with every text in it changed, names of members included."""
    if isinstance(value, dict):
        return {change(name): map_texts(member, change) for name, member in value.items()}
    if isinstance(value, list):
        return [map_texts(item, change) for item in value]
    return change(value) if isinstance(value, str) else value


def change_inside(text: str, change: Callable[[str], str]) -> str:
    """Return a text changed; of one that holds a JSON object or array, as arguments of calls do, the texts in it."""
    held = object_in(text)
    if held is None:
        return change(text)
    changed = map_texts(held, lambda inner: change_inside(inner, change))
    return text if changed == held else dumped(changed)


def object_in(text: str) -> Any:
    """Return the JSON object or array that a text holds, None if it holds anything else, or nests it too deep."""
    if text.lstrip()[:1] not in ("{", "["):
        return None
    try:
        value = orjson.loads(text)
        if text.count("{") + text.count("[") > _MANY:
            json_of(value)
        return value
    except (orjson.JSONDecodeError, Rejection):
        return None
