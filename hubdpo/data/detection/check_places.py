"""Refuse descriptions that name columns or members which no row has, with the names that were likely meant."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence

from hubdpo import console
from hubdpo.artefacts.formats.messages import ROLES
from hubdpo.config.base import flag_of
from hubdpo.config.description import OPEN, PLACES, SourceConfig
from hubdpo.config.name_values import read_pairs, write_pairs
from hubdpo.data.converters.columns import Speech
from hubdpo.data.converters.places import Place, as_list, listed
from hubdpo.data.detection.detect import MOST_FIELDS, Look
from hubdpo.data.detection.keys import as_map
from hubdpo.data.detection.names import near_name
from hubdpo.data.detection.suggest import suggest
from hubdpo.data.pairs.example import Row
from hubdpo.data.pairs.messages import role_of
from hubdpo.errors import DataError


def check_places(source: SourceConfig, mapping: dict[str, str] | None, seen: Look) -> None:
    """Raise DataError if none of the first rows has a value at a place, with the place that was likely meant.

    `mapping` has the columns as `--map` names them, if it does.
    """
    for name in PLACES:
        paths = getattr(source, name)
        for path in [paths] if isinstance(paths, str) else paths or []:
            place = Place.of(path)
            if path in seen.fields or any(place.value(row) is not None for row in seen.examples):
                continue
            if place.column not in seen.fields:
                raise _no_column(source, mapping, name, place, seen)
            raise _no_value(name, place, seen)
    for name in ("answers", "scores", "ranks") if len(source.answers) == 1 else ():
        for path in getattr(source, name):
            if not any(isinstance(listed(Place.of(path).value(row)), list) for row in seen.examples):
                flag = f"--{name}"
                raise DataError(
                    f"{seen.name}: `{path}`, the one column of `{name}`, holds no lists",
                    hint=f"name a column for each answer: {flag} {shlex.quote(path)} {flag} {OPEN}",
                )


def check_roles(roles: str, speech: Speech, seen: Look, rows: Sequence[Row]) -> None:
    """Raise DataError if no name in `roles` speaks in the first rows, or if one does not and another was likely meant.

    Warn of single names that do not speak there: they may do so later.
    """
    speakers = dict.fromkeys(speaker for row in rows for speaker in speech.speakers(row))
    pairs = read_pairs(roles)
    absent = [name for name, _ in pairs if name not in speakers]
    if not absent:
        return
    others = [name for name in speakers if name not in dict(pairs)]
    meant = {name: near for name in absent if (near := near_name(name, others))}
    problem = f"{seen.name}: `--roles` names {_quoted(absent)}, by whom no message of the first rows is"
    if speakers:
        problem += f"; the speakers are {_quoted(speakers)}"
    if len(absent) < len(pairs) and not meant:
        console.warn(problem)
        return
    named = {meant.get(name, name): role for name, role in pairs if name in meant or name in speakers}
    named |= {name: OPEN for name in others if name not in named and role_of(name) not in ROLES}
    hint = f"--roles {shlex.quote(write_pairs(named.items()))}" if named else "leave `--roles` out"
    raise DataError(problem, hint=hint)


def _quoted(names: Iterable[str]) -> str:
    return console.listed((f"`{name}`" for name in names), MOST_FIELDS)


def _no_column(source: SourceConfig, mapping: dict[str, str] | None, name: str, place: Place, seen: Look) -> DataError:
    problem = f"{seen.name}: no row has a column `{place.column}`; the rows have {seen.columns}"
    if mapping is not None:
        missing = [column for column in mapping.values() if Place.of(column).column not in seen.fields]
        return DataError(problem, hint=_corrected(mapping, missing, seen))
    flag = flag_of(name)
    parts = [part.strip() for part in place.path.split(",")]
    if len(parts) > 1 and all(Place.of(part).column in seen.fields for part in parts):
        return DataError(problem, hint=" ".join(f"{flag} {shlex.quote(part)}" for part in parts))
    near = near_name(place.column, seen.fields)
    path = place.path.replace(place.column, near, 1) if near else _left(source, name, seen) or OPEN
    return DataError(problem, hint=f"{flag} {shlex.quote(path)}")


def _left(source: SourceConfig, name: str, seen: Look) -> str | None:
    """Return the column that rows of this shape have for an option, or the only one that no option names."""
    named = [path for option in PLACES for path in as_list(getattr(source, option))]
    free = [column for column in seen.fields if column not in named]
    suggested = as_list((suggest(seen.examples).keys or {}).get(name))
    found = suggested if len(suggested) == 1 and suggested[0] in free else free
    return str(found[0]) if len(found) == 1 else None


def _corrected(mapping: dict[str, str], missing: Sequence[str], seen: Look) -> str:
    """Return a user's `--map` with the missing columns replaced.

    A replacement is a column of nearly the same name, or the suggestion for the rows if it agrees with the rest of the
    map; otherwise the column stays open.
    """
    free = [name for name in seen.fields if name not in mapping.values()]
    right = {role: column for role, column in mapping.items() if column not in missing}
    suggested = as_map(suggest(seen.examples).keys or {}) or {}
    new = {role: column if role in right else near_name(column, free) for role, column in mapping.items()}
    if suggested.keys() == mapping.keys() and right.items() <= suggested.items():
        new = {role: column or suggested[role] for role, column in new.items()}
    return f"--map {shlex.quote(write_pairs((role, column or OPEN) for role, column in new.items()))}"


def _no_value(name: str, place: Place, seen: Look) -> DataError:
    before = Place(place.path, place.steps[:-1])
    values = [value for row in seen.examples for value in as_list(before.walked(row))]
    members = dict.fromkeys(key for value in values if isinstance(value, dict) for key in value)
    problem, hint = f"{seen.name}: no row has a value at `{place.path}`", "look at the rows with `--explain 3`"
    if members:
        problem += f"; the members there are {console.listed((f'`{key}`' for key in members), MOST_FIELDS)}"
        if near := near_name(place.steps[-1], members):
            hint = f"{flag_of(name)} {shlex.quote(place.path.removesuffix(place.steps[-1]) + near)}"
    return DataError(problem, hint=hint)
