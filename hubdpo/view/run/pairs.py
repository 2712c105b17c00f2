"""The held-out pairs of a run by how base and adapter score them, with their texts where the dataset can be read."""

from __future__ import annotations

import time

import numpy as np

from hubdpo.artefacts.manifests.run import RunManifest
from hubdpo.console import counted
from hubdpo.view.dataset.index import Index
from hubdpo.view.dataset.search import Wanted, find
from hubdpo.view.dataset.turns import Pair, pair_of
from hubdpo.view.dataset.viewer import table_of
from hubdpo.view.page import Asked, Page, PageError
from hubdpo.view.run.data import Data, data_of
from hubdpo.view.run.scores import MEASURES, ORDERS, OUTCOMES, Scores, scores_of
from hubdpo.view.run.state import Run, chosen_run, manifest_of
from hubdpo.view.thing import Thing

ROWS = 10
"""Pairs of a page."""
SEARCH_S = 2.0
"""Longest time that a search of the texts takes."""
SPLIT = "test"


def pairs(asked: Asked, thing: Thing) -> Page:
    """Show the pair of `row`, or a page of the pairs that fit the filters, in the order asked for."""
    run, runs = chosen_run(asked, thing)
    manifest = manifest_of(run)
    scores = scores_of(run.thing, run.snapshot)
    if scores is None:
        raise PageError(404, *_why_none(run))
    data = data_of(run, manifest, on_hub=bool(asked.base))
    measure = asked.choice("by", tuple(MEASURES)) or next(iter(MEASURES))
    order = asked.choice("order", tuple(ORDERS)) or next(iter(ORDERS))
    outcome, text = asked.choice("outcome", tuple(OUTCOMES)), asked.text("q")
    is_one = "row" in asked.query
    if is_one:
        places = np.flatnonzero(scores.columns["row"] == asked.number("row", 0))
        if not len(places):
            raise PageError(404, f"row {asked.number('row', 0):,} of the test split was not scored", "")
        note = f"row {asked.number('row', 0):,} of the test split, numbered from 0"
    else:
        fits = scores.with_outcome(outcome, measure)
        found, unread = _with_text(data.thing, text) if text and data.thing is not None else (None, 0)
        if found is not None:
            fits = fits & np.isin(scores.columns["row"], found)
        places = scores.order(order, measure)
        places = places[fits[places]]
        note = f"{counted(len(places), 'pair')} of {len(scores):,}"
        if unread:
            note += f"; {unread:,} rows were not searched in {SEARCH_S:g} seconds"
    start, before, after = asked.rows(len(places), ROWS)
    part = places[start : start + ROWS].tolist()
    texts = _texts(data.thing, [int(scores.columns["row"][place]) for place in part], text=text, whole=is_one)
    return Page(
        "pairs.html", "Held-out pairs",
        {
            "run": run, "runs": runs, "manifest": manifest, "note": note, "is_one": is_one,
            "shown": [_shown(scores, place, measure, pair) for place, pair in zip(part, texts, strict=True)],
            "measure": measure, "measures": MEASURES, "order": order, "orders": ORDERS, "outcome": outcome,
            "outcomes": {
                name: f"{label} ({scores.with_outcome(name, measure).sum():,})" for name, label in OUTCOMES.items()
            },
            "why": data.why, "is_asked": data.is_asked, "can_search": data.thing is not None, "beta": scores.beta,
            "before": before, "after": after, "address_of": lambda row: asked.here(row=row, **{"from": None}),
            "in_dataset": _in_dataset(asked, manifest, data),
        },
    )  # fmt: skip


def _why_none(run: Run) -> tuple[str, str]:
    manifest = manifest_of(run)
    if run.is_live:
        return "the held-out pairs are scored when the training ends", ""
    if manifest.dataset is None:
        again = f"hubdpo evaluate {run.folder or run.title} --dataset USER/NAME"
        return "another tool trained this adapter, and it was not evaluated on a dataset yet", again
    if not manifest.test_pairs:
        return "the dataset of this run has no test split, so no pair was held out", ""
    again = f"hubdpo evaluate {run.folder or run.title}"
    return "this run has no scores of its pairs: an earlier version of hubdpo kept none, or it has not ended", again


def _shown(scores: Scores, place: int, measure: str, pair: Pair | None) -> dict[str, object]:
    row, *tokens = (int(scores.columns[name][place]) for name in ("row", "chosen_tokens", "rejected_tokens"))
    reward = float(scores.rewards[place])
    return {"row": row, "tokens": tokens, "scores": scores.at(place, measure), "reward": reward, "pair": pair}


def _texts(data: Thing | None, rows: list[int], *, text: str, whole: bool) -> list[Pair | None]:
    table = table_of(data) if data is not None else None
    if table is None or not rows or max(rows) >= table.splits.get(SPLIT, 0):
        return [None] * len(rows)
    read = table.rows(SPLIT, rows)
    return [pair_of(SPLIT, row, each, text=text, whole=whole) for row, each in zip(rows, read, strict=True)]


def _with_text(data: Thing, text: str) -> tuple[list[int], int]:
    """Return the rows of the test split that have a text, and how many were not looked at for want of time."""
    table = table_of(data)
    index = data.keep("index", lambda: Index(table))
    total, until = table.splits.get(SPLIT, 0), time.monotonic() + SEARCH_S
    rows: list[int] = []
    at: int | None = 0 if total else None
    while at is not None and time.monotonic() < until:
        found = find(table, index, SPLIT, Wanted(text=text), start=at, count=total)
        rows, at = rows + found.rows, found.at
    return rows, total - at if at is not None else 0


def _in_dataset(asked: Asked, manifest: RunManifest, data: Data) -> str | None:
    """Return the address of the dataset's own pages, where the Hub that shows this page has it."""
    ref = manifest.dataset
    if not (asked.base and data.thing is not None and ref is not None and ref.repo_id):
        return None
    return f"/datasets/{ref.repo_id}/viewer?split={SPLIT}&revision={ref.revision}&row="
