"""Choose the converter of each file by the shape of its first rows, and do not guess if several fit."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hubdpo import console
from hubdpo.artefacts.folders.named import unused
from hubdpo.artefacts.manifests.prepare import IN_MEMORY
from hubdpo.data.converters import CONVERTERS, Convert, Row
from hubdpo.data.converters.prompts import SYSTEM, columns_called, names_in
from hubdpo.data.detection.seen import Suggestion
from hubdpo.data.detection.suggest import suggest
from hubdpo.data.pairs.example import Converted, Rejection
from hubdpo.errors import DataError

MOST_ROWS = 1000
ENOUGH = 0.5
"""Share of the rows that must have a shape for its converter to fit; real files hold some broken rows."""
MOST_FIELDS = 12
MOST_EXAMPLES = 20


@dataclass
class Look:
    """The first rows of a file."""

    name: str
    source: str
    """The command line argument that led to the file."""
    seen: int = 0
    shapes: Counter[tuple[str, ...]] = field(default_factory=Counter)
    """Rows by the names of all converters that detect them."""
    fields: dict[str, None] = field(default_factory=dict)
    split_column: dict[str, None] = field(default_factory=dict)
    examples: list[Row] = field(default_factory=list)

    @property
    def columns(self) -> str:
        """The names of the columns, cut after MOST_FIELDS."""
        return console.listed((f"`{key}`" for key in self.fields), MOST_FIELDS)

    def hits(self, name: str) -> int:
        """Return how many rows a converter detects."""
        return sum(count for names, count in self.shapes.items() if name in names)

    @property
    def fitting(self) -> list[str]:
        """The converters that detect enough rows; those that need no scores or votes take precedence."""
        names = [name for name in CONVERTERS if self.seen and self.hits(name) >= ENOUGH * self.seen]
        return [name for name in names if CONVERTERS[name].names_better_answer] or names

    def read_by(self, name: str) -> list[str]:
        """Return the columns that a converter may read."""
        names = {column.partition(".")[0] for column in names_in(CONVERTERS[name].reads)}
        columns = names | {*columns_called(tuple(self.fields), SYSTEM)}
        return [column for column in self.fields if column in columns]

    @property
    def by_use(self) -> list[str]:
        """The converters that fit, those that read more of the rows first."""
        return sorted(self.fitting, key=lambda name: -len(self.read_by(name)))


def look(rows: Iterable[Row], name: str, source: str) -> Look:
    result = Look(name, source)
    for row in rows:
        result.seen += 1
        result.examples += [row] if result.seen <= MOST_EXAMPLES else []
        result.fields |= dict.fromkeys(row)
        if isinstance(split := row.get("split"), str):
            result.split_column[split] = None
        result.shapes[tuple(name for name, converter in CONVERTERS.items() if converter.detect(row))] += 1
    return result


def detect_all(looks: Sequence[Look], *, alone: bool = True) -> list[str]:
    """Return the name of the converter of each file, and report it; unless `alone`, there are other files as well.

    If several converters fit a file, it gets the one that is certain for another file. If none fits, and the file has
    only columns of another file of its source, it gets that file's converter: it holds broken rows of the same shape.
    Raise DataError for any other file.
    """
    certain: dict[str, list[Look]] = {}
    for file in looks:
        if len(file.fitting) == 1:
            certain.setdefault(file.fitting[0], []).append(file)
    names = [_choose(file, certain, looks) for file in looks]
    for name in dict.fromkeys(names):
        files = [file for file, chosen in zip(looks, names, strict=True) if chosen == name]
        _report(name, files, alone=alone and len({*names}) == 1)
    return names


def check_converter(name: str, convert: Convert, looks: Sequence[Look]) -> None:
    """Raise DataError if no row has the shape that `--converter` names, with the converter or the options that fit."""
    files = [file for file in looks if file.examples]
    if any(file.hits(name) or first_converted(convert, file.examples) is not None for file in files) or not files:
        return
    raise _unfit(files[0], f"no row has {CONVERTERS[name].evidence}, which `--converter {name}` reads")


def first_converted(convert: Convert, rows: Iterable[Row]) -> Converted | None:
    """Return what the first row that converts is converted to."""
    for row in rows:
        try:
            return convert(row)
        except Rejection:
            continue
    return None


def _choose(file: Look, certain: dict[str, list[Look]], looks: Sequence[Look]) -> str:
    candidates = file.fitting
    if len(candidates) > 1:
        candidates = [name for name in candidates if name in certain]
    elif not candidates and file.fields:
        candidates = [
            name
            for name, others in certain.items()
            if any(other.source == file.source and file.fields.keys() <= other.fields.keys() for other in others)
        ]
    if len(candidates) == 1:
        return candidates[0]
    raise _no_converter(file, certain, looks)


def _no_converter(file: Look, certain: dict[str, list[Look]], looks: Sequence[Look]) -> DataError:
    where = f"{file.name}: " if certain or file.source else ""
    if not file.fields:
        rows = f"{file.seen:,} rows without a field" if file.seen else "no rows"
        return DataError(f"{file.name} holds {rows}", hint="look at the file, or leave it out")
    if file.fitting:
        fitting = "; ".join(f"{name} ({file.hits(name)} of {file.seen}), {_reads(file, name)}" for name in file.by_use)
        return DataError(
            f"{where}several converters fit these rows: {fitting}",
            hint=" or ".join(f"--converter {name}" for name in file.by_use),
        )
    problem = _unfit(file, f"{where}no converter fits")
    if any(not file.fields.keys() <= other.fields.keys() for other in looks if other.fields):
        # the options of one would be those of all
        problem.message += "; other sources have other columns, so each needs a description"
        problem.hint = _describe(list(dict.fromkeys(look.source for look in looks)))
    return problem


def _reads(file: Look, name: str) -> str:
    others = {column for other in file.fitting if other != name for column in file.read_by(other)}
    own = [f"`{column}`" for column in file.read_by(name) if column not in others]
    return f"which alone reads {console.listed(own, MOST_FIELDS)}" if own else "which reads no column of its own"


def _unfit(file: Look, problem: str) -> DataError:
    """Return the error for rows of another shape, with the converters that fit or options that may read them."""
    fitting = " or ".join(f"--converter {name}" for name in file.fitting)
    suggestion = Suggestion(advice=fitting) if fitting else suggest(file.examples)
    needs = ""
    if suggestion.finding and not suggestion.tells_better:
        needs = (
            "; DPO needs two answers to each prompt, and which of them is the better one; a description of the columns "
            "can say so"
        )
    return DataError(
        f"{problem}; the rows have {file.columns}{_empty_columns(file)}{suggestion.finding}{needs}",
        hint=suggestion.hint or _describe([file.source]),
    )


def _describe(sources: Sequence[str]) -> str:
    """Return the command that writes the description of sources to a new file. Rows in memory have none."""
    if not sources[0] or sources[0].startswith(IN_MEMORY):
        return "--describe"
    target = unused("data.yaml", Path(sources[0]))
    return f"hubdpo prepare --describe {shlex.join(sources)} > {shlex.quote(target)}"


def _empty_columns(file: Look) -> str:
    """Name the columns that are empty in most example rows; a file that lost its answers has no shape."""
    rows = file.examples
    counts = {name: sum(row.get(name) in (None, "") for row in rows) for name in file.fields}
    empty = [f"`{name}` in {count} of the first {len(rows)}" for name, count in counts.items() if 2 * count > len(rows)]
    return f"; empty are {console.listed(empty)}" if empty else ""


def _report(name: str, files: list[Look], *, alone: bool) -> None:
    hits, seen = sum(file.hits(name) for file in files), sum(file.seen for file in files)
    where = "" if alone else f" in {console.listed(file.name for file in files)}"
    console.info(f"detected {name}{where}: {hits:,} of the first {seen:,} rows have {CONVERTERS[name].evidence}")
    for file in files:
        others: Counter[str] = Counter()
        for names, count in file.shapes.items():
            if names and name not in names:
                others[names[0]] += count
        for other, count in others.items():
            console.warn(
                f"{file.name} mixes shapes: {count:,} of its first {file.seen:,} rows have "
                f"{CONVERTERS[other].evidence}, which `{name}` does not read; write them to a file of their own"
            )
