"""Write the description of rows: what a converter was found to read, or what a person has still to fill in.

A description is never trusted: the first rows are converted by it as well as by the converter, and unless both give
the same pairs, the converter itself is the description.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml

from hubdpo.config.description import MEANINGS
from hubdpo.data.converters import CONVERTERS, ConvertOptions
from hubdpo.data.converters.contract import Convert
from hubdpo.data.converters.prompts import SYSTEM, TOOLS, columns_called, tools_in
from hubdpo.data.converters.vote_columns import STRENGTHS
from hubdpo.data.converters.vote_words import normalize
from hubdpo.data.detection.format_columns import COLUMNS, Keys
from hubdpo.data.detection.keys import compiled, is_open, plain_keys
from hubdpo.data.pairs.example import PreferenceExample, Rejection, Row, ScoredAnswer

MOST_VALUES = 8


def describe(name: str, rows: Sequence[Row], how: ConvertOptions) -> Keys:
    """Return the columns that the converter `name` reads in these rows, or `converter` where columns cannot say it."""
    columns = COLUMNS[name](rows) if name in COLUMNS and rows else None
    if columns is None or None in columns.values() or how.score_field is not None:
        return {"converter": name}
    keys = {**columns, **beside(rows, columns)}
    for values in ({}, _values(name, keys, rows, how)):
        if values is not None and _agrees({**keys, **values}, CONVERTERS[name].bind(how), rows, how):
            return {**keys, **values}
    return {"converter": name}


def _agrees(keys: Keys, convert: Convert, rows: Sequence[Row], how: ConvertOptions) -> bool:
    own = compiled(keys, how)
    return all(_made(own, row) == _made(convert, row) for row in rows)


def _made(convert: Convert, row: Row) -> list[Any]:
    """Return the pairs of a row, None in place of a rejection."""
    try:
        made = convert(row)
        if isinstance(made, ScoredAnswer):
            return [made.prompt, made.answer, made.score]
        pairs = [made] if isinstance(made, PreferenceExample) else list(made)
        return [(p.prompt, p.chosen, p.rejected) if isinstance(p, PreferenceExample) else None for p in pairs]
    except Rejection:
        return [None]


def beside(rows: Sequence[Row], columns: Keys) -> Keys:
    """Return the columns with system prompts, tools and history, beside those of the prompt and the answers."""
    names = tuple(dict.fromkeys(name for row in rows for name in row))
    found: Keys = {}
    if systems := [name for name in columns_called(names, SYSTEM) if any(row.get(name) for row in rows)]:
        found["system"] = systems[0]
    if any(tools_in(row) is not None for row in rows):
        found["tools"] = next(iter(columns_called(names, TOOLS)), "input.tools")
    if columns.get("prompt") != "history" and any(row.get("history") for row in rows):
        found["history"] = "history"
    return found


def _values(name: str, keys: Keys, rows: Sequence[Row], how: ConvertOptions) -> Keys | None:
    """Return what the values of a vote or label mean, as the converter reads them; None if that is not one to one."""
    column = keys.get("vote") or keys.get("label")
    if not isinstance(column, str) or column in STRENGTHS:
        return None
    meanings: dict[str, str] = {}
    for row in rows:
        if (value := row.get(column)) is None or (meaning := _meaning(name, keys, row, how)) is None:
            continue
        if meanings.setdefault(normalize(value), meaning) != meaning:
            return None
    found: Keys = {}
    for value, meaning in sorted(meanings.items(), key=lambda item: (MEANINGS.index(item[1]), item[0])):
        found[meaning] = [*found.get(meaning, []), value]
    if len(meanings) > MOST_VALUES or not ({"first", "second"} <= found.keys() or {"good", "bad"} <= found.keys()):
        return None
    return plain_keys(found)


def _meaning(name: str, keys: Keys, row: Row, how: ConvertOptions) -> str | None:
    try:
        made = CONVERTERS[name].bind(how)(row)
    except Rejection as rejection:
        return "tie" if rejection.reason == "tie" else None
    if isinstance(made, ScoredAnswer):
        return "good" if made.score > 0 else "bad"
    if not isinstance(made, PreferenceExample) or "answers" not in keys:
        return None
    first = row.get(keys["answers"][0])
    return "first" if made.chosen[-1]["content"] == first else "second"


def as_yaml(keys: Keys) -> list[str]:
    """Return the lines of a description; those that a person must fill in are marked."""
    lines = []
    for key, value in keys.items():
        flow = None if isinstance(value, (list, dict)) else False  # in brackets, in the line of its key
        text = yaml.safe_dump({key: value}, allow_unicode=True, default_flow_style=flow, width=10**6).strip()
        lines.append(f"{text}  # needed" if is_open(value) else text)
    return lines
