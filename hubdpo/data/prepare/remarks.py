"""Remarks on what prepare left as it is: columns that were not used, and texts that hold markers."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

from hubdpo import console
from hubdpo.artefacts.manifests.prepare import KINDS, Markers, PrepareManifest
from hubdpo.data.clean.screen import MOST_NAMES, OTHERS
from hubdpo.data.clean.unread import MASKS, SHARES
from hubdpo.data.converters.prompts import SYSTEM
from hubdpo.data.pairs.messages import media_of, words_of
from hubdpo.data.prepare.rounds import Rounds
from hubdpo.secrets import shown_name

MOST_MARKERS = 20
MOST_NAMED = 40
LOSSES = (
    ("the answers are learned without the tools that they may call", ("tools", "functions", "工具")),
    ("the answers are learned without it", (*SYSTEM, "sys", "persona")),
    ("earlier turns are not in the prompt", ("history", "histories", "历史")),
    ("it is not in the prompt", (
        "context", "contexts", "document", "documents", "docs", "passage", "passages", "knowledge", "background",
        "reference", "references", "evidence", "上下文", "背景", "知识", "文档", "参考", "资料",
    )),
    ("all rows weigh the same", ("weight", "weights")),
)  # fmt: skip
"""What is lost if a column is not used, by words of its name. Chinese words may be part of longer ones."""
LOSSES_BY_NAME = {
    "input": "it is not in the prompt", "instruction": "it is not in the prompt",
    "initial_reason_steps": "the answers begin in the middle",
}  # fmt: skip
"""The same, by the whole name."""
DESCRIPTIVE = frozenset((
    "id", "ids", "num", "number", "count", "n", "len", "length", "token", "tokens", "type", "name", "source", "model",
    "score", "url", "title", "has", "is", "hash", "index", "language", "lang", "version", "time", "date", "answer",
    "answers", "response", "output", "completion", "solution", "used", "hint",
))  # fmt: skip
"""Words in the names of columns that describe a row or belong to an answer, and get no warning."""
MEMBER_LOSSES = (
    ("an answer is learned whole, and nothing of a prompt", SHARES | MASKS),
    ("who speaks is lost", frozenset(("name", "speaker", "author", "sender"))),
)
"""What is lost if a member of messages is not used, by words of its name."""
CONSEQUENCES = {
    "template": "they stay as text, so the model's own template is laid over them",
    "speakers": "they stay as text, so that several turns are learned as one",
    "tool_calls": "they are learned as plain text, and the chat template is told of no tools",
    "media": "what they stand for is missing: hubdpo trains text",
    "repeats": "it is learned as the beginning of the answer",
}
"""What training makes of markers in texts, by their kind."""
NEXT_STEPS = {
    "template": "take the marks out of the source, or give the rows as lists of messages",
    "speakers": "give the rows as lists of messages, a turn each",
    "tool_calls": "leave such rows out, unless your model writes its calls so and its prompt names the tools",
    "repeats": "cut the prompt off the beginning of the answers",
    "media": "leave such rows out, or take the placeholders out where the text alone makes sense",
}
"""What to do about markers, by their kind."""


def unused_columns(rounds: Rounds, *, scan: bool) -> dict[str, int]:
    """Count the rows that have a value in each column that was not used."""
    total: Counter[str] = Counter()
    for result in rounds.first:
        for name, count in result.unused.items():
            shown = shown_name(name, scan)
            total[shown if shown in total or len(total) < MOST_NAMES else OTHERS] += count
    return dict(sorted(total.items()))


def text_markers(rounds: Rounds) -> dict[str, Any]:
    """Count the prompts and answers that hold markers, as the fields `template_markers` and `text_markers`."""
    total = sum((result.markers for result in rounds.last), Counter[tuple[str, str, str]]())
    found: dict[str, dict[str, Markers]] = {}
    for kind, side in itertools.product(KINDS, ("prompts", "answers")):
        counts = {marker: count for (*where, marker), count in total.items() if where == [side, kind] and marker}
        if counts:
            most = sorted(counts, key=lambda marker: (-counts[marker], marker))[:MOST_MARKERS]
            markers = Markers(rows=total[side, kind, ""], markers={marker: counts[marker] for marker in most})
            found.setdefault(kind, {})[side] = markers
    return {"template_markers": found.pop("template", {}), "text_markers": found}


def tell_remarks(manifest: PrepareManifest) -> None:
    """Report unused columns, markers in texts, and rows that DPO cannot use."""
    if manifest.unused_columns:
        names = [f"`{name}` ({count:,} rows)" for name, count in manifest.unused_columns.items()]
        more = f" and {len(names) - MOST_NAMED:,} more" if len(names) > MOST_NAMED else ""
        console.info(f"columns not used: {', '.join(names[:MOST_NAMED])}{more}")
        for name, count in manifest.unused_columns.items():
            if loss := _loss(name):
                kind = "member" if "[]." in name else "column"
                console.warn(f"{kind} `{name}` is not used, in {count:,} rows: {loss}")
    for kind, sides in {"template": manifest.template_markers, **manifest.text_markers}.items():
        for side, found in sides.items():
            # a marker in one line: it may hold line breaks
            counts = ", ".join(f"`{' '.join(marker.split())}` {count:,}" for marker, count in found.markers.items())
            console.warn(f"{found.rows:,} {side} hold {KINDS[kind]}: {counts}; {CONSEQUENCES[kind]}")
        if sides:
            console.hint(NEXT_STEPS[kind])
    if alone := manifest.funnel.dropped.get("unpaired"):
        console.warn(f"{alone:,} rows are alone: their prompt has one answer or one kind of label, and DPO needs two")


def _loss(name: str) -> str | None:
    """Return what is lost because a column, or member of messages, was not used; None if that is likely nothing."""
    last = name.rpartition("[].")[2].rpartition(".")[2]
    words = {"".join(words_of(last)), *words_of(last)}
    if "[]." in name:
        return next((loss for loss, terms in MEMBER_LOSSES if words & terms), None)
    if last.lower() in LOSSES_BY_NAME:
        return LOSSES_BY_NAME[last.lower()]
    if not words & DESCRIPTIVE:
        for loss, terms in LOSSES:
            if any(term in words or (not term.isascii() and term in last) for term in terms):
                return loss
    return f"hubdpo trains text, not {kind}" if (kind := media_of(last)) else None
