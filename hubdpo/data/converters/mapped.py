"""`columns`: any columns, named by `--map prompt=...,chosen=...,rejected=...`, or two answers and a vote."""

from __future__ import annotations

from functools import partial
from typing import Any

from hubdpo.artefacts.formats.messages import COLUMNS
from hubdpo.data.converters.asking import Reads
from hubdpo.data.converters.choice import Choice
from hubdpo.data.converters.preference import many_from_texts
from hubdpo.data.converters.question import ask
from hubdpo.data.converters.voted import checked, decided
from hubdpo.data.converters.votes import ONE_OF_THREE, mapped_vote
from hubdpo.data.pairs.example import PreferenceExample, Rejection
from hubdpo.data.pairs.message_column import Columns
from hubdpo.errors import ConfigError

Row = dict[str, Any]
HINT = "--map prompt=question,chosen=good,rejected=bad"
VOTED = ("prompt", "first", "second", "vote")


def parse_map(text: str) -> dict[str, str]:
    """Read `prompt=a,chosen=b,rejected=c`, or `prompt=a,first=b,second=c,vote=d`; both may have `system=e`.

    Raise ConfigError unless each of the columns is named once.
    """
    pairs = [part.partition("=") for part in text.split(",")]
    names = sorted(name.strip() for name, _, _ in pairs if name.strip() != "system")
    twice = len({name.strip() for name, _, _ in pairs}) != len(pairs)
    if names not in (sorted(COLUMNS), sorted(VOTED)) or twice or not all(column.strip() for _, _, column in pairs):
        raise ConfigError(
            f"`--map` must name prompt, chosen and rejected (or prompt, first, second and vote) once each: {text}",
            hint=HINT,
        )
    return {name.strip(): column.strip() for name, _, column in pairs}


def reads(mapping: dict[str, str]) -> Reads:
    flags = ONE_OF_THREE if mapping.get("vote") in ONE_OF_THREE else ()
    return (*mapping.values(), *(name for name in flags if name != mapping["vote"]))


def convert(row: Row, mapping: dict[str, str], how: Choice) -> PreferenceExample:
    """Read text or messages from the columns of `mapping`."""
    system = row.get(mapping["system"]) if "system" in mapping else None
    if "vote" not in mapping:
        prompt, chosen, rejected = (row.get(mapping[name]) for name in COLUMNS)
        return ask(prompt, system=system).pair(chosen, rejected)
    prompt, first, second, value = (row.get(mapping[name]) for name in VOTED)
    if value is None:
        raise Rejection("missing_field")
    vote = checked(mapped_vote(row, mapping["vote"], (mapping["first"], mapping["second"]), how.labels), how)
    return decided(vote, ask(prompt, system=system).pair(first, second))


def convert_many(rows: list[Row], mapping: dict[str, str]) -> Columns | None:
    """Do the same for many rows at once."""
    if "vote" in mapping:
        return None
    systems = [row.get(mapping["system"]) for row in rows] if "system" in mapping else None
    prompts, chosen, rejected = ([row.get(mapping[name]) for row in rows] for name in COLUMNS)
    return many_from_texts(prompts, chosen, rejected, systems)


def converter(mapping: dict[str, str], how: Choice | None = None) -> partial[PreferenceExample]:
    return partial(convert, mapping=mapping, how=how or Choice())


def converter_of_many(mapping: dict[str, str]) -> partial[Columns | None]:
    return partial(convert_many, mapping=mapping)
