"""The tables of a dataset card, from the statistics in prepare's manifest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hubdpo.artefacts.manifests.prepare import PrepareManifest
from hubdpo.cards.results import percent

SIDES = ("prompt", "chosen", "rejected")


def statistics_table(manifest: PrepareManifest) -> str:
    """Return a Markdown table with the statistics of each split."""
    return _table(manifest, "", list(_statistics(list(manifest.statistics.values()))))


def tokens_table(manifest: PrepareManifest) -> str:
    """Return a Markdown table of lengths in tokens; "" if tokens were not counted."""
    splits = list(manifest.statistics.values())
    if any("tokens" not in facts for facts in splits):
        return ""
    rows = [
        ["prompt and longer answer" if side == "pair" else side]
        + [" / ".join(f"{facts['tokens'][side][part]:,}" for part in ("p50", "p95", "p99", "max")) for facts in splits]
        for side in (*SIDES, "pair")
    ]
    return _table(manifest, "tokens ¹ (p50 / p95 / p99 / max)", rows)


def _statistics(splits: Sequence[Mapping[str, Any]]) -> Iterator[list[str]]:
    yield ["pairs", *(f"{facts['pairs']:,}" for facts in splits)]
    yield ["distinct prompts", *(f"{facts['distinct_prompts']:,}" for facts in splits)]
    messages = [facts["prompt_messages"] for facts in splits]
    yield [
        "messages in a prompt (min / median / max)",
        *(f"{spread['min']} / {spread['median']} / {spread['max']}" for spread in messages),
    ]
    for side in SIDES:
        lengths = [facts["characters"][side] for facts in splits]
        yield [
            f"characters of {side} (p50 / p95 / max)",
            *(f"{spread['p50']:,} / {spread['p95']:,} / {spread['max']:,}" for spread in lengths),
        ]
    yield ["chosen is the longer answer", *(percent(facts["chosen_is_longer"]) for facts in splits)]


def _table(manifest: PrepareManifest, corner: str, rows: list[list[str]]) -> str:
    heads = [corner, *manifest.statistics]
    lines = ["| " + " | ".join(heads) + " |", "|---|" + "---:|" * len(manifest.statistics)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])
