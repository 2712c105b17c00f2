"""Which converter fits a file: decided by many rows, told with the evidence, never guessed when two fit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from hubdpo import console
from hubdpo.data.converters import CONVERTERS, NAMES
from hubdpo.data.detection.suggest import advice
from hubdpo.data.raw.raw_file import listed
from hubdpo.errors import DataError

MOST_ROWS = 1000
ENOUGH = 0.5
"""Share of the rows that must have a shape for it to be a candidate: real files hold some broken rows."""
MOST_FIELDS = 12
MOST_EXAMPLES = 20


@dataclass
class Look:
    """What the first rows of a file look like; `name` is the file's, `source` what was named on the command line."""

    name: str = "the source"
    source: str = ""
    seen: int = 0
    shapes: Counter[tuple[str, ...]] = field(default_factory=Counter)
    """Rows by the names of all converters whose shape they have."""
    fields: dict[str, None] = field(default_factory=dict)
    split_column: dict[str, None] = field(default_factory=dict)
    """The values of a column `split`."""
    examples: list[dict[str, Any]] = field(default_factory=list)
    """The first few of the rows."""

    def add(self, row: dict[str, Any]) -> None:
        self.seen += 1
        if self.seen <= MOST_EXAMPLES:
            self.examples.append(row)
        self.fields.update(dict.fromkeys(row))
        if isinstance(split := row.get("split"), str):
            self.split_column[split] = None
        self.shapes[tuple(name for name, converter in CONVERTERS.items() if converter.detect(row))] += 1

    @property
    def columns(self) -> str:
        """The names of the columns, cut after MOST_FIELDS."""
        names = ", ".join(f"`{key}`" for key in list(self.fields)[:MOST_FIELDS])
        return names + (f" and {len(self.fields) - MOST_FIELDS:,} more" if len(self.fields) > MOST_FIELDS else "")

    def hits(self, name: str) -> int:
        """Return how many rows have the shape of a converter."""
        return sum(count for names, count in self.shapes.items() if name in names)

    @property
    def fitting(self) -> list[str]:
        """Return who reads most rows: those told which answer is better, before those who look at scores or votes."""
        names = [name for name in CONVERTERS if self.seen and self.hits(name) >= ENOUGH * self.seen]
        return [name for name in names if CONVERTERS[name].names_better_answer] or names

    def others(self, name: str) -> Counter[str]:
        """Count the rows that have another shape and not that of `name`."""
        found: Counter[str] = Counter()
        for names, count in self.shapes.items():
            if names and name not in names:
                found[names[0]] += count
        return found


def look(rows: Iterable[dict[str, Any]], name: str = "the source", source: str = "") -> Look:
    found = Look(name, source)
    for row in rows:
        found.add(row)
    return found


def detect(rows: Iterable[dict[str, Any]]) -> str:
    """Return the name of the one converter that fits. Raise DataError when none or several do."""
    return detect_all([look(rows)])[0]


def detect_all(looks: Sequence[Look]) -> list[str]:
    """Return the name of the converter of each file, and tell it.

    A file that several fit takes the only one of them that another file has for sure. A file that none fits, and that
    has no field which its source's other files lack, holds broken rows of their shape. Raise DataError for any other.
    """
    sure: dict[str, list[Look]] = {}
    for one in looks:
        if len(one.fitting) == 1:
            sure.setdefault(one.fitting[0], []).append(one)
    names = [_name(one, sure) for one in looks]
    for name in dict.fromkeys(names):
        _tell(name, [one for one, found in zip(looks, names, strict=True) if found == name], alone=len({*names}) == 1)
    return names


def _name(one: Look, sure: dict[str, list[Look]]) -> str:
    fitting = one.fitting
    if not fitting and one.fields:
        near = [
            name
            for name, looks in sure.items()
            if any(other.source == one.source and one.fields.keys() <= other.fields.keys() for other in looks)
        ]
    else:
        near = fitting if len(fitting) == 1 else [name for name in fitting if name in sure]
    if len(near) == 1:
        return near[0]
    raise _unfit(one, fitting, sure)


def _unfit(one: Look, fitting: list[str], sure: dict[str, list[Look]]) -> DataError:
    where = f"{one.name}: " if sure or one.source else ""
    if not one.fields:
        rows = f"{one.seen:,} rows without a field" if one.seen else "no rows"
        return DataError(f"{one.name} holds {rows}", hint="look at the file, or leave it out")
    if not fitting:
        told, options = advice(one.examples)
        general = (
            "--map prompt=...,chosen=...,rejected=..., or, where a column says which answer is better, "
            f"--map prompt=...,first=...,second=...,vote=..., or --format {'|'.join(NAMES)}"
        )
        if told:
            general = "DPO needs two answers to each prompt, and which of them is the better one"
        said = f"{where}no converter fits; the rows have {one.columns}{_empty(one)}{told}"
        return DataError(said, hint=options or general)
    counts = ", ".join(f"{name} ({one.hits(name)} of {one.seen})" for name in fitting)
    return DataError(
        f"{where}several converters fit these rows: {counts}",
        hint=" or ".join(f"--format {name}" for name in fitting),
    )


def _empty(one: Look) -> str:
    """Name the columns with nothing in most of the first rows: a file that lost its answers has no shape."""
    rows = one.examples
    counts = {name: sum(row.get(name) in (None, "") for row in rows) for name in one.fields}
    found = [f"`{name}` in {count} of the first {len(rows)}" for name, count in counts.items() if 2 * count > len(rows)]
    return f"; nothing stands in {listed(found)}" if found else ""


def _tell(name: str, looks: list[Look], *, alone: bool) -> None:
    hits, seen = sum(one.hits(name) for one in looks), sum(one.seen for one in looks)
    where = "" if alone else f" in {listed([one.name for one in looks])}"
    console.info(f"detected {name}{where}: {hits:,} of the first {seen:,} rows have {CONVERTERS[name].evidence}")
    for one in looks:
        for other, count in one.others(name).items():
            console.warn(
                f"{one.name} mixes shapes: {count:,} of its first {one.seen:,} rows have {CONVERTERS[other].evidence}, "
                f"which `{name}` does not read; write them to a file of their own"
            )
