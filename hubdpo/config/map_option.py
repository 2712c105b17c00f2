"""`--map`: the columns of a source in one option, `prompt=question,chosen=good,rejected=bad`."""

from __future__ import annotations

import shlex
from typing import Any

from hubdpo.config.description import COLUMN
from hubdpo.config.name_values import read_pairs, turned_round, write_pairs
from hubdpo.errors import ConfigError

PAIR, WITH_VOTE = ("prompt", "chosen", "rejected"), ("prompt", "first", "second", "vote")
BESIDE = ("system", "tools", "history")
"""Columns that may be named beside those of the prompt and the answers."""
HINT = "--map prompt=question,chosen=good,rejected=bad"


def parse_map(text: str) -> dict[str, str]:
    """Parse `prompt=a,chosen=b,rejected=c` or `prompt=a,first=b,second=c,vote=d`, each with an optional `system=e`.

    Raise ConfigError unless each role is named once.
    """
    pairs = read_pairs(text)
    roles = sorted(role for role, _ in pairs if role not in BESIDE)
    mapping = dict(pairs)
    if turned := turned_round(pairs, (*PAIR, *WITH_VOTE, *BESIDE)):
        raise ConfigError(f"`--map` names a role before its column: {text}", hint=f"--map {shlex.quote(turned)}")
    if roles not in (sorted(PAIR), sorted(WITH_VOTE)) or len(mapping) != len(pairs) or "" in mapping.values():
        needed = WITH_VOTE if {*WITH_VOTE[1:]} & {*roles} else PAIR
        columns = {
            role: mapping.get(role) or COLUMN for role in (*needed, *(each for each in BESIDE if each in mapping))
        }
        raise ConfigError(
            f"`--map` must name prompt, chosen and rejected (or prompt, first, second and vote) once each: {text}",
            hint=f"--map {shlex.quote(write_pairs(columns.items()))}",
        )
    return mapping


def columns_of_map(text: str) -> dict[str, Any]:
    """Return the keys of a description that `--map` stands for."""
    columns: dict[str, Any] = dict(parse_map(text))
    columns["prompt"] = [columns["prompt"]]
    if "vote" in columns:
        columns["answers"] = [columns.pop("first"), columns.pop("second")]
        columns["vote"] = [columns["vote"]]
    return columns
