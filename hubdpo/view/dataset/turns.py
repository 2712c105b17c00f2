"""A pair as a reader sees it: turns of a chat, with the words that differ between the two answers marked."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from hubdpo.artefacts.formats.messages import COLUMNS, TOOLS
from hubdpo.view.words import Piece, marked, with_found

MOST_SHOWN = 6000
"""Characters of a text that a page of several rows shows; the page of the row has all of it."""
LATEST = 4
"""Turns of a prompt that are open on a page of several rows."""


@dataclass
class Turn:
    """A message, or a part of one that is not text: `kind` is its role, `call` or `reasoning`."""

    kind: str
    label: str
    text: str
    pieces: list[Piece] = field(default_factory=list)
    left_out: int = 0
    """Characters at the end that are not shown."""


@dataclass(frozen=True)
class Pair:
    """A row: `earlier` are turns of the prompt that are folded, `extras` are its columns of text."""

    split: str
    number: int
    earlier: list[Turn]
    prompt: list[Turn]
    chosen: list[Turn]
    rejected: list[Turn]
    tools: list[str]
    extras: dict[str, str]
    row: dict[str, Any]

    def characters(self, side: str) -> int:
        """Return the characters of the texts of a side, as `prepare` counts them."""
        return sum(len(message.get("content") or "") for message in messages_of(self.row[side]))


def pair_of(split: str, number: int, row: Mapping[str, Any], *, text: str = "", whole: bool = False) -> Pair:
    """Make a row of a dataset readable; places of `text` are marked, and long texts cut unless `whole`."""
    sides = {name: [turn for message in messages_of(row[name]) for turn in _turns(message)] for name in COLUMNS}
    most = None if whole else MOST_SHOWN
    for turn in [turn for turns in sides.values() for turn in turns]:
        turn.left_out = max(len(turn.text) - most, 0) if most else 0
        turn.pieces = [Piece(turn.text[:most])]
    for a, b in zip(sides["chosen"], sides["rejected"], strict=False):
        if a.kind == b.kind:
            a.pieces, b.pieces = marked(a.text[:most], b.text[:most])
    for turn in [turn for turns in sides.values() for turn in turns]:
        turn.pieces = with_found(turn.pieces, text)
    prompt = sides["prompt"]
    folded = 0 if whole or text else max(len(prompt) - LATEST, 0)
    tools = row.get(TOOLS)
    return Pair(
        split, number, prompt[:folded], prompt[folded:], sides["chosen"], sides["rejected"],
        [_indented(tool) for tool in tools] if isinstance(tools, list) else [],
        {name: value for name, value in row.items() if isinstance(value, str)},
        {name: messages_of(value) if name in COLUMNS else value for name, value in row.items()},
    )  # fmt: skip


def messages_of(value: Sequence[Mapping[str, Any] | str | None] | None) -> list[dict[str, Any]]:
    """Return the messages of a column, which may be JSON objects; a null has none."""
    read = [orjson.loads(message) if isinstance(message, str) else message for message in value or ()]
    return [dict(message) for message in read if isinstance(message, Mapping)]


def _turns(message: Mapping[str, Any]) -> list[Turn]:
    role, name = str(message.get("role")), message.get("name")
    reasoning, calls = message.get("reasoning_content"), message.get("tool_calls") or []
    turns = []
    if reasoning:
        turns.append(Turn("reasoning", f"{role}, reasoning", str(reasoning)))
    if message.get("content") or not (reasoning or calls):
        turns.append(Turn(role, f"{role} {name}" if name else role, str(message.get("content") or "")))
    for call in calls:
        turns.append(Turn("call", f"{role} calls a tool", _indented(call)))
    known = {"role", "content", "name", "reasoning_content", "tool_calls"}
    if others := {key: value for key, value in message.items() if key not in known and value is not None}:
        turns.append(Turn("other", ", ".join(others), _indented(others)))
    return turns


def _indented(value: object) -> str:
    """Return JSON that people can read; arguments of a call that are JSON in text become part of it."""
    held: Any = orjson.loads(value) if isinstance(value, str) else value
    function = held.get("function") if isinstance(held, dict) else None
    if isinstance(function, dict) and isinstance(arguments := function.get("arguments"), str):
        with contextlib.suppress(ValueError, TypeError):  # not JSON, or nested deeper than JSON may be: as it is
            return indented({**held, "function": {**function, "arguments": orjson.loads(arguments)}})
    return indented(held)


def indented(value: object) -> str:
    return orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()
