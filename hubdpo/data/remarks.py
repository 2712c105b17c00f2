"""What prepare saw and left as it is: columns that nobody read, and texts that hold the marks of a chat template."""

from __future__ import annotations

from collections import Counter

from hubdpo import console
from hubdpo.data.losses import shown_name
from hubdpo.data.messages import media_of
from hubdpo.data.rounds import Rounds
from hubdpo.data.screen import MOST_NAMES, OTHERS
from hubdpo.funnel import Markers
from hubdpo.manifest import PrepareManifest

MOST_MARKERS = 20
MOST_TOLD = 40
MATTER = {
    "tools": "the answers are learned without the tools that they may call", "functions": "the answers are learned "
    "without the functions that they may call", "history": "earlier turns are not in the prompt",
    "input": "it is not in the prompt", "context": "it is not in the prompt", "instruction": "it is not in the prompt",
    "system": "the answers are learned without it", "system_prompt": "the answers are learned without it",
    "initial_reason_steps": "the answers begin in the middle",
}  # fmt: skip
"""Columns whose absence changes what the answers answer to."""


def unused_columns(rounds: Rounds, *, scan: bool) -> dict[str, int]:
    """Return how many rows have a value in a column that was not used, by the column."""
    total: Counter[str] = Counter()
    for part in rounds.first:
        for name, count in part.unused.items():
            shown = shown_name(name, scan)
            total[shown if shown in total or len(total) < MOST_NAMES else OTHERS] += count
    return dict(sorted(total.items()))


def template_markers(rounds: Rounds) -> dict[str, Markers]:
    """Return how many prompts and answers hold a marker of a chat template, and which."""
    total = sum((part.markers for part in rounds.all), Counter[tuple[str, str]]())
    found = {}
    for side in ("prompts", "answers"):
        counts = {marker: count for (where, marker), count in total.items() if where == side and marker}
        if counts:
            most = sorted(counts, key=lambda marker: (-counts[marker], marker))[:MOST_MARKERS]
            found[side] = Markers(rows=total[side, ""], markers={marker: counts[marker] for marker in most})
    return found


def tell_remarks(manifest: PrepareManifest) -> None:
    """Name the columns that were not used, the marks of templates, and rows that DPO cannot use."""
    if manifest.unused_columns:
        names = [f"`{name}` ({count:,} rows)" for name, count in manifest.unused_columns.items()]
        more = f" and {len(names) - MOST_TOLD:,} more" if len(names) > MOST_TOLD else ""
        console.info(f"columns not used: {', '.join(names[:MOST_TOLD])}{more}")
        for name, count in manifest.unused_columns.items():
            if why := _why(name):
                console.warn(f"column `{name}` is not used, in {count:,} rows: {why}")
    for side, found in manifest.template_markers.items():
        told = ", ".join(f"`{_bare(marker)}` {count:,}" for marker, count in found.markers.items())
        console.warn(
            f"{found.rows:,} {side} hold marks of a chat template: {told}; they stay as text, so the model's own "
            "template is laid over them"
        )
    if manifest.template_markers:
        console.hint("take the marks out of the source, or give the rows as lists of messages")
    if alone := manifest.funnel.dropped.get("unpaired"):
        console.warn(f"{alone:,} rows are alone: their prompt has one answer or one kind of label, and DPO needs two")


def _why(name: str) -> str | None:
    last = name.rpartition(".")[2].lower()
    if last in MATTER:
        return MATTER[last]
    return f"hubdpo trains text, not {kind}" if (kind := media_of(last)) else None


def _bare(marker: str) -> str:
    return " ".join(marker.split())
