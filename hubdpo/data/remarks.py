"""What prepare saw and left as it is: columns that nobody read, and texts that hold the marks of a chat template."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

from hubdpo import console
from hubdpo.data.losses import shown_name
from hubdpo.data.messages import media_of
from hubdpo.data.rounds import Rounds
from hubdpo.data.screen import MOST_NAMES, OTHERS
from hubdpo.funnel import KINDS, Markers
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

FOLLOWS = {
    "template": "they stay as text, so the model's own template is laid over them",
    "speakers": "they stay as text, so that several turns are learned as one",
    "tool_calls": "they are learned as plain text, and the chat template is told of no tools",
    "media": "what they stand for is missing: hubdpo trains text",
}
"""What comes of marks, by their kind."""
NEXT = {
    "template": "take the marks out of the source, or give the rows as lists of messages",
    "speakers": "give the rows as lists of messages, a turn each",
    "tool_calls": "leave such rows out, unless your model writes its calls so and its prompt names the tools",
    "media": "leave such rows out, or take the placeholders out where the text alone makes sense",
}


def unused_columns(rounds: Rounds, *, scan: bool) -> dict[str, int]:
    """Return how many rows have a value in a column that was not used, by the column."""
    total: Counter[str] = Counter()
    for part in rounds.first:
        for name, count in part.unused.items():
            shown = shown_name(name, scan)
            total[shown if shown in total or len(total) < MOST_NAMES else OTHERS] += count
    return dict(sorted(total.items()))


def text_markers(rounds: Rounds) -> dict[str, Any]:
    """Return how many prompts and answers hold a marker, and which, as the manifest has it."""
    total = sum((part.markers for part in rounds.all), Counter[tuple[str, str, str]]())
    found: dict[str, dict[str, Markers]] = {}
    for kind, side in itertools.product(KINDS, ("prompts", "answers")):
        counts = {marker: count for (*where, marker), count in total.items() if where == [side, kind] and marker}
        if counts:
            most = sorted(counts, key=lambda marker: (-counts[marker], marker))[:MOST_MARKERS]
            held = Markers(rows=total[side, kind, ""], markers={marker: counts[marker] for marker in most})
            found.setdefault(kind, {})[side] = held
    return {"template_markers": found.pop("template", {}), "text_markers": found}


def tell_remarks(manifest: PrepareManifest) -> None:
    """Name the columns that were not used, the marks of templates, and rows that DPO cannot use."""
    if manifest.unused_columns:
        names = [f"`{name}` ({count:,} rows)" for name, count in manifest.unused_columns.items()]
        more = f" and {len(names) - MOST_TOLD:,} more" if len(names) > MOST_TOLD else ""
        console.info(f"columns not used: {', '.join(names[:MOST_TOLD])}{more}")
        for name, count in manifest.unused_columns.items():
            if why := _why(name):
                console.warn(f"column `{name}` is not used, in {count:,} rows: {why}")
    for kind, sides in {"template": manifest.template_markers, **manifest.text_markers}.items():
        for side, found in sides.items():
            told = ", ".join(f"`{_bare(marker)}` {count:,}" for marker, count in found.markers.items())
            console.warn(f"{found.rows:,} {side} hold {KINDS[kind]}: {told}; {FOLLOWS[kind]}")
        if sides:
            console.hint(NEXT[kind])
    if alone := manifest.funnel.dropped.get("unpaired"):
        console.warn(f"{alone:,} rows are alone: their prompt has one answer or one kind of label, and DPO needs two")


def _why(name: str) -> str | None:
    last = name.rpartition(".")[2].lower()
    if last in MATTER:
        return MATTER[last]
    return f"hubdpo trains text, not {kind}" if (kind := media_of(last)) else None


def _bare(marker: str) -> str:
    return " ".join(marker.split())
