"""The keys of a description: compiled, or written as options and back."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from typing import Any

from hubdpo.config.base import flag_of
from hubdpo.config.description import MEANINGS, OPEN, Description, SourceConfig
from hubdpo.config.map_option import BESIDE, PAIR, WITH_VOTE, columns_of_map
from hubdpo.config.name_values import read_pairs, write_pairs
from hubdpo.data.converters.columns import Columns
from hubdpo.data.converters.contract import Convert, ConvertOptions
from hubdpo.data.converters.formats.described import converter
from hubdpo.data.converters.places import as_list
from hubdpo.data.converters.vote_words import normalize
from hubdpo.data.detection.format_columns import Keys

_VALUE = r"""(?![-,;])(?:'[^']*'|"[^"]*"|[^\s;'"`]+)+|-\d+"""
_NAMES = "|".join(
    name.replace("_", "-") for name in ("converter", "map", "labels", "score_field", *Description.model_fields)
)
_OPTION = re.compile(rf"--({_NAMES}) ({_VALUE})")
_OPTIONS = re.compile(rf"(?:--converter columns ?)?--(?:{_NAMES}) (?:{_VALUE})(?: --(?:{_NAMES}) (?:{_VALUE}))*")


def compiled(keys: Keys, how: ConvertOptions) -> Convert:
    """Return what reads rows as a description says."""
    source = SourceConfig.item({"path": "rows", **keys}, "the description")
    labels = source.meanings(normalize) or how.labels
    return converter(Columns.of(source)).bind(ConvertOptions(how.pairs, how.min_margin, None, labels))


def is_open(value: Any) -> bool:
    """Whether a person must fill in a value of a description, or a part of it."""
    return OPEN in (value.values() if isinstance(value, dict) else as_list(value))


def plain_keys(keys: Keys) -> Keys:
    """Return keys with a value in place of each list of one."""
    return {key: held[0] if isinstance(held, list) and len(held) == 1 else held for key, held in keys.items()}


def as_map(keys: Keys) -> dict[str, str] | None:
    """Return the columns as `--map` names them, or None if it cannot say all that the keys do."""
    named = {role: as_list(keys[role]) for role in (*PAIR, "vote", "answers", *BESIDE) if role in keys}
    answers = named.pop("answers", [])
    if any(len(columns) > 1 for columns in named.values()) or ("second" not in keys and "first" in keys):
        return None
    if not keys.keys().isdisjoint(("role_key", "content_key", "roles")):
        return None
    columns = {role: column for role, (column,) in named.items()} | dict(
        zip(("first", "second"), answers, strict=False)
    )
    roles = next((roles for roles in (PAIR, WITH_VOTE) if {*columns} - {*BESIDE} == {*roles}), None)
    if roles is None or len(answers) > 2:
        return None
    return {role: columns[role] for role in (*roles, *BESIDE) if role in columns}


def as_options(keys: Keys) -> str:
    """Return the options for a description: `--map` and `--labels` where they say it."""
    columns, found = as_map(keys), list[str]()
    if columns is not None:
        found += ["--converter columns --map", shlex.quote(write_pairs(columns.items()))]
    for key, value in keys.items():
        said_by_map = columns is not None and (key in columns or key == "answers")
        if said_by_map or (key in MEANINGS and _both_sides(keys)):
            continue
        values = [write_pairs(value.items())] if isinstance(value, dict) else as_list(value)
        for one in values:
            found += [flag_of(key), shlex.quote(str(one))]
    if _both_sides(keys):
        labels = ((meaning, value) for meaning in MEANINGS if meaning in keys for value in as_list(keys[meaning]))
        found += ["--labels", shlex.quote(write_pairs(labels))]
    return " ".join(found)


def _both_sides(keys: Keys) -> bool:
    return "second" in keys or "bad" in keys


def in_hint(hint: str, spelled: Callable[[Keys], str]) -> str:
    """Return a hint with its options as the keys of a description."""
    return _OPTIONS.sub(lambda options: spelled(_keys_of(options[0])), hint)


def _keys_of(options: str) -> Keys:
    keys: Keys = {}
    for name, quoted in _OPTION.findall(options):
        value = "".join(shlex.split(quoted))
        if name == "map":
            keys |= columns_of_map(value)
        elif name == "roles":
            keys[name] = dict(read_pairs(value))
        elif (name, value) != ("converter", "columns"):
            pairs = read_pairs(value) if name == "labels" else [(name.replace("-", "_"), value)]
            for key, one in pairs:
                keys[key] = [*keys.get(key, []), one]
    return plain_keys(keys)
