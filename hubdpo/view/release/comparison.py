"""Two versions compared: what `hubdpo diff` finds, looked at, and every file that differs."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

from hubdpo.artefacts.formats.front_matter import fields
from hubdpo.artefacts.manifests.manifest import BUNDLE_FILE, CARD_FILE
from hubdpo.errors import ArtefactError
from hubdpo.hub.snapshot import Snapshot
from hubdpo.release.changelog import changed_options
from hubdpo.release.diff.diff import PARQUET, SAFETENSORS, Diff, compare, verify_release
from hubdpo.release.diff.rows import RowPlaces, find_rows
from hubdpo.view.dataset.table import Table
from hubdpo.view.dataset.turns import MOST_SHOWN, Pair, pair_of
from hubdpo.view.hub.hosted import Hosted, StoredSnapshot
from hubdpo.view.page import Asked, Page, PageError
from hubdpo.view.release.changes import Changes, changes_between, state_of
from hubdpo.view.release.sources import Source, commit_of, names_of
from hubdpo.view.thing import Thing
from hubdpo.view.words import marked

LARGEST = {PARQUET: 150_000_000, SAFETENSORS: 1_000_000_000}
"""Bytes of files with an ending that a page compares: half a million rows take 15 s."""
ONE_AT_A_TIME = threading.Lock()
"""Held while contents are compared: so much memory, and so many copies of Xet files, are needed at most."""
ROWS = 10
"""Rows on a page."""


@dataclass(frozen=True)
class Compared:
    """Two snapshots, and what differs: `diff` only between two releases of one kind, `places` only of rows."""

    old: Snapshot
    new: Snapshot
    changes: Changes
    diff: Diff | None = None
    places: RowPlaces | None = None
    note: str = ""
    """Why rows or weights are not compared."""


def comparison(asked: Asked, thing: Thing) -> Page:
    source = Source(thing)
    refs = source.refs()
    before, after = asked.text("before"), asked.text("after")
    if not before or not after:
        raise PageError(400, "two versions are compared", "choose them in the list of versions")
    old, new = (source.at(commit_of(refs, name), name) for name in (before, after))
    found = thing.keep_few(f"comparison of {old.commit} and {new.commit}", lambda: _compared(old, new))
    page = asked.number("p", 0)
    rows, count = _rows(found, page) if found.places else ([], 0)
    cards = [_about(side) for side in (found.old, found.new)]
    return Page(
        "compare.html", f"{before} and {after}",
        {
            "before": before, "after": after, "names": names_of(refs), "found": found, "diff": found.diff, "rows": rows,
            "count": count, "card": changed_options(*cards), "modules": _modules(found.diff),
            "next": asked.here(p=page + 1) if (page + 1) * ROWS < count else None,
            "previous": asked.here(p=page - 1 or None) if page else None,
            **_links(asked, thing, after),
        },
    )  # fmt: skip


def _links(asked: Asked, thing: Thing, after: str) -> dict[str, Any]:
    """Return functions from a file, and from a version and its row, to pages: a Hub has pages of all versions."""
    if not isinstance(thing, Hosted):
        return {"link": None, "row_link": lambda name, pair: "#rows"}
    return {
        "link": lambda path: asked.link("blob", after, *path.split("/")),
        "row_link": lambda name, pair: asked.link("viewer", split=pair.split, row=pair.number, revision=name),
    }


def _about(snapshot: Snapshot) -> dict[str, Any]:
    """Return the fields of a card but for tables, whose numbers the manifests have."""
    about = fields(snapshot.text(CARD_FILE)) if CARD_FILE in snapshot.files else {}
    return {name: value for name, value in about.items() if name not in ("dataset_info", "configs", "model-index")}


def _compared(old: Snapshot, new: Snapshot) -> Compared:
    changes = changes_between(old, new)
    with ONE_AT_A_TIME:
        try:
            return _measured(old, new, changes)
        finally:
            for side in (old, new):
                if isinstance(side, StoredSnapshot):
                    side.drop_copies()


def _measured(old: Snapshot, new: Snapshot, changes: Changes) -> Compared:
    try:
        verify_release(old)
        verify_release(new)
    except ArtefactError as problem:
        return Compared(old, new, changes, note=problem.message if BUNDLE_FILE in {*old.files, *new.files} else "")
    assert old.bundle and new.bundle
    if old.bundle.kind != new.bundle.kind:
        return Compared(old, new, changes, note=f"a {old.bundle.kind} and a {new.bundle.kind} have little to compare")
    for ending, most in LARGEST.items():
        if (size := _bytes_compared(old, new, ending)) > most:
            command = f"hubdpo diff {old.name}@{old.revision} {new.name}@{new.revision}"
            note = f"comparing reads {size:,} bytes of `*{ending}`, too much for a page: `{command}` does it"
            return Compared(old, new, changes, compare(old, new, contents=False), note=note)
    diff = compare(old, new)
    places = find_rows(_splits(old), _splits(new)) if diff.rows else None
    return Compared(old, new, changes, diff, places)


def _bytes_compared(old: Snapshot, new: Snapshot, ending: str) -> int:
    """Return the size, on the larger side, of all files with an ending, which are read if one of them differs."""
    sides = [{name: side.digest(name) for name in side.files if name.endswith(ending)} for side in (old, new)]
    if sides[0] == sides[1]:
        return 0
    return max(sum(side.files[name] for name in names) for side, names in zip((old, new), sides, strict=True))


def _splits(snapshot: Snapshot) -> dict[str, list[Path]]:
    """Return local copies of the files of each split, in the order in which a Table numbers their rows."""
    folder = snapshot.fetch([name for name in snapshot.files if name.endswith(PARQUET)])
    return {split: [folder / name for name in names] for split, names in Table(snapshot).files.items()}


def _rows(found: Compared, page: int) -> tuple[list[dict[str, Pair | str | None]], int]:
    """Return the rows of a page: changed ones first, then those removed, then those added; and how many there are."""
    places = found.places
    assert places
    count = len(places.changed) + len(places.removed) + len(places.added)
    every = chain(places.changed, ((row, None) for row in places.removed), ((None, row) for row in places.added))
    old, new = Table(found.old), Table(found.new)
    rows = [
        _marked(
            None if before is None else _pair(old, *places.before.place(int(before))),
            None if after is None else _pair(new, *places.after.place(int(after))),
        )
        for before, after in islice(every, page * ROWS, (page + 1) * ROWS)
    ]
    return rows, count


def _pair(table: Table, split: str, number: int) -> Pair:
    return pair_of(split, number, table.rows(split, [number])[0])


def _marked(before: Pair | None, after: Pair | None) -> dict[str, Pair | str | None]:
    """Mark the words in which the answers of a changed row differ from those before."""
    if before and after:
        for side in ("chosen", "rejected"):
            for a, b in zip(getattr(before, side), getattr(after, side), strict=False):
                a.pieces, b.pieces = marked(a.text[:MOST_SHOWN], b.text[:MOST_SHOWN])
    return {"before": before, "after": after, "state": state_of(before, after)}


def _modules(diff: Diff | None) -> list[tuple[str, Any]]:
    if diff is None or diff.weights is None:
        return []
    modules = sorted(diff.weights.modules.items(), key=lambda item: -item[1].difference)
    return [(name.removeprefix("base_model.model.").removeprefix("model."), distance) for name, distance in modules]
