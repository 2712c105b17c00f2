"""The pairs of a dataset, side by side: a page of rows that can be searched and filtered, and the page of one row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import get_args

from hubdpo.console import counted
from hubdpo.view.dataset.index import Index
from hubdpo.view.dataset.search import Found, Longer, Wanted, find, sources_of
from hubdpo.view.dataset.table import Table
from hubdpo.view.dataset.turns import Pair, indented, pair_of
from hubdpo.view.page import Asked, Page, PageError
from hubdpo.view.thing import Thing

ROWS = 20
"""Rows of a page."""
LONGER = {"chosen": "chosen is longer", "rejected": "rejected is longer", "same": "both as long"}


@dataclass(frozen=True)
class Part:
    """Rows of a split on a page, with where the pages before and after begin."""

    rows: list[int]
    before: str | None
    after: str | None
    note: str


def viewer(asked: Asked, thing: Thing) -> Page:
    """Show the row that `row` names, or a page of rows from `from` on (or before `before`)."""
    table = table_of(thing)
    split = _split(asked, table)
    if "row" in asked.query:
        return _one_row(asked, thing, table, split)
    wanted = _wanted(asked, thing, split)
    index = thing.keep("index", lambda: Index(table))
    part = _everything(asked, table, split) if wanted == Wanted() else _matches(asked, table, index, split, wanted)
    pairs = [
        pair_of(split, n, row, text=wanted.text) for n, row in zip(part.rows, table.rows(split, part.rows), strict=True)
    ]
    return Page(
        "viewer.html", "Pairs",
        {
            "pairs": pairs, "part": part, "split": split, "last": max(table.splits[split] - 1, 0), "longer": LONGER,
            "splits": {name: f"{name} ({rows:,})" for name, rows in table.splits.items()},
            "sources": {name: name for name, _ in _sources(thing, split)}, "source_of": _source_of(thing, split),
            "problem": index.problem, "problems": table.problems,
            "address_of": lambda pair: _address(asked, pair.split, pair.number),
        },
    )  # fmt: skip


def table_of(thing: Thing) -> Table:
    return thing.keep("table", lambda: Table(thing.snapshot))


def _split(asked: Asked, table: Table) -> str:
    if not table.splits:
        wrong = "; ".join(f"{split}: {problem}" for split, problem in table.problems.items())
        raise PageError(*((500, wrong) if wrong else (404, "this dataset has no rows")), "prepare the data again")
    if asked.text("split") in table.problems.keys() - table.splits.keys():
        raise PageError(500, table.problems[asked.text("split")], "restore the file, or prepare the data again")
    return asked.choice("split", tuple(table.splits)) or next(iter(table.splits))


def _wanted(asked: Asked, thing: Thing, split: str) -> Wanted:
    source = asked.text("source")
    places = dict(_sources(thing, split))
    if source and source not in places:
        raise PageError(400, f"no rows of this split come from `{source}`", "leave `source` out of the address")
    longer: dict[str, Longer] = {name: name for name in get_args(Longer)}
    return Wanted(
        text=asked.text("q"), longer=longer.get(asked.choice("longer", tuple(LONGER))),
        least=asked.number("least", 0) or None, most=asked.number("most", 0) or None,
        places=places[source] if source else None,
    )  # fmt: skip


def _everything(asked: Asked, table: Table, split: str) -> Part:
    count = table.splits[split]
    start, before, after = asked.rows(count, ROWS)
    stop = min(start + ROWS, count)
    note = f"rows {start:,} to {stop - 1:,} of {count:,}" if count else "no rows"
    return Part(list(range(start, stop)), before, after, note)


def _matches(asked: Asked, table: Table, index: Index, split: str, wanted: Wanted) -> Part:
    count = table.splits[split]
    backwards = "before" in asked.query
    start = min(asked.number("before" if backwards else "from", 0), count)
    found = find(table, index, split, wanted, start=start, count=ROWS, backwards=backwards)
    before, after = (found.at, start if start < count else None) if backwards else (start or None, found.at)
    return Part(
        found.rows,
        None if before is None else asked.here(before=before, **{"from": None}),
        None if after is None else asked.here(before=None, **{"from": after}),
        _note(found, count, start, backwards),
    )


def _note(found: Found, count: int, start: int, backwards: bool) -> str:
    if found.total is not None:
        return f"{counted(found.total, 'row')} of {count:,}"
    shown = counted(len(found.rows), "row")
    if found.at is None:
        return f"{shown} from {'the beginning' if not start or backwards else f'row {start:,}'} on"
    if len(found.rows) < ROWS:
        return f"{shown} among {found.looked_at:,} looked at so far, of {count:,}"
    return f"the {'last' if backwards else 'next'} {shown}, among {count:,}"


def _one_row(asked: Asked, thing: Thing, table: Table, split: str) -> Page:
    number, count = asked.number("row", 0), table.splits[split]
    if number >= count:
        raise PageError(404, f"`{split}` has {counted(count, 'row')}, numbered from 0", _address(asked, split, 0))
    pair = pair_of(split, number, table.rows(split, [number])[0], text=asked.text("q"), whole=True)
    return Page(
        "row.html", f"Row {number:,} of {split}",
        {
            "pair": pair, "count": count, "source": _source_of(thing, split)(pair),
            "before": _address(asked, split, number - 1) if number else None,
            "after": _address(asked, split, number + 1) if number + 1 < count else None,
            "address_of": lambda pair: _address(asked, pair.split, pair.number),
            "json": indented(pair.row),
            "page_of": asked.link(
                "viewer", split=split, revision=asked.text("revision"), **{"from": number // ROWS * ROWS}
            ),
        },
    )  # fmt: skip


def _address(asked: Asked, split: str, number: int) -> str:
    return asked.link("viewer", split=split, row=number, q=asked.text("q"), revision=asked.text("revision"))


def _sources(thing: Thing, split: str) -> list[tuple[str, range]]:
    """Return the sources of a split and their rows; none where there is one, or an earlier version did not count."""
    manifest = thing.snapshot.prepare
    sources = manifest.sources if manifest else []
    return list(sources_of(sources, split)) if len(sources) > 1 else []


def _source_of(thing: Thing, split: str) -> Callable[[Pair], str]:
    sources = _sources(thing, split)
    return lambda pair: next((name for name, rows in sources if pair.number in rows), "")
