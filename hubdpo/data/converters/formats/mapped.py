"""`columns`: any columns, named by `--map prompt=...,chosen=...,rejected=...`, or two answers and a vote."""

from __future__ import annotations

import shlex
from functools import partial

from hubdpo.artefacts.formats.messages import COLUMNS
from hubdpo.config.name_values import read_pairs, turned_round
from hubdpo.data.converters.contract import Converter, ConvertOptions
from hubdpo.data.converters.formats.preference import pair_columns
from hubdpo.data.converters.prompts import read_prompt, tools_of
from hubdpo.data.converters.vote_columns import ONE_OF_THREE, check_margin, mapped_vote, winner_first
from hubdpo.data.pairs.example import PreferenceExample, Rejection, Row
from hubdpo.data.pairs.message_column import PairColumns
from hubdpo.errors import ConfigError

NAME = "columns"
HINT = "--map prompt=question,chosen=good,rejected=bad"
WITH_VOTE = ("prompt", "first", "second", "vote")


def parse_map(text: str) -> dict[str, str]:
    """Parse `prompt=a,chosen=b,rejected=c` or `prompt=a,first=b,second=c,vote=d`, each with an optional `system=e`.

    Raise ConfigError unless each role is named once.
    """
    pairs = read_pairs(text)
    roles = sorted(role for role, _ in pairs if role != "system")
    mapping = dict(pairs)
    if turned := turned_round(pairs, (*COLUMNS, *WITH_VOTE, "system")):
        raise ConfigError(f"`--map` names a role before its column: {text}", hint=f"--map {shlex.quote(turned)}")
    if roles not in (sorted(COLUMNS), sorted(WITH_VOTE)) or len(mapping) != len(pairs) or "" in mapping.values():
        raise ConfigError(
            f"`--map` must name prompt, chosen and rejected (or prompt, first, second and vote) once each: {text}",
            hint=HINT,
        )
    return mapping


def converter(mapping: dict[str, str]) -> Converter:
    """Return the converter for the columns of `--map`."""
    voted = "vote" in mapping
    flags = ONE_OF_THREE if mapping.get("vote") in ONE_OF_THREE else ()
    return Converter(
        NAME,
        "the columns of `--map`",
        partial(detect, mapping=mapping),
        partial(convert_vote if voted else convert, mapping=mapping),
        reads=(*mapping.values(), *(name for name in flags if name != mapping["vote"])),
        answers=tuple(mapping[role] for role in (WITH_VOTE[1:3] if voted else COLUMNS[1:])),
        convert_many=None if voted else partial(convert_many, mapping=mapping),
        options=("min_margin", "labels") if voted else (),
        tools=partial(tools_of, column=mapping.get("tools")),
    )


def detect(row: Row, mapping: dict[str, str]) -> bool:
    return all(column in row for column in mapping.values())


def convert(row: Row, mapping: dict[str, str]) -> PreferenceExample:
    prompt, chosen, rejected = (row.get(mapping[role]) for role in COLUMNS)
    return read_prompt(prompt, system=_system(row, mapping)).pair(chosen, rejected)


def convert_vote(row: Row, mapping: dict[str, str], how: ConvertOptions) -> PreferenceExample:
    prompt, first, second, value = (row.get(mapping[role]) for role in WITH_VOTE)
    if value is None:
        raise Rejection("missing_field")
    sides = mapping["first"], mapping["second"]
    vote = check_margin(mapped_vote(row, mapping["vote"], sides, how.labels), how)
    return winner_first(vote, read_prompt(prompt, system=_system(row, mapping)).pair(first, second))


def convert_many(rows: list[Row], mapping: dict[str, str]) -> PairColumns | None:
    systems = [row.get(mapping["system"]) for row in rows] if "system" in mapping else None
    return pair_columns(*([row.get(mapping[role]) for row in rows] for role in COLUMNS), systems=systems)


def _system(row: Row, mapping: dict[str, str]) -> object:
    return row.get(mapping["system"]) if "system" in mapping else None
