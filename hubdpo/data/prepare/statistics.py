"""What the card tells about the splits, from the keys of the rows that were kept."""

from __future__ import annotations

from typing import Any

import numpy as np

from hubdpo.data.clean.decide import total_tokens
from hubdpo.data.pairs.example import CHANGES

SIDES = ("prompt", "chosen", "rejected")
BINS = 24


def summary(keys: Any, rows: Any) -> dict[str, Any]:
    """Return what a split is like: pairs, distinct prompts, messages in the prompt, lengths and the length bias.

    Lengths are in characters, and in tokens too where a tokenizer counted. `chosen_is_longer` is the share of pairs
    whose chosen answer has more characters. Histograms are {edges, counts}.
    """
    messages = keys["messages"][rows]
    characters = {side: keys[f"{side}_characters"][rows] for side in SIDES}
    facts: dict[str, Any] = {
        "pairs": len(rows),
        "distinct_prompts": len(_distinct(keys["prompt"][rows])),
        "prompt_messages": {"min": int(messages.min()), "median": _at(messages, 0.5), "max": int(messages.max())},
        "characters": {side: _spread(values) for side, values in characters.items()},
        "chosen_is_longer": round(float(np.mean(characters["chosen"] > characters["rejected"])), 4),
        "histograms": {side: _histogram(values) for side, values in characters.items()},
        "turns": _turns(messages),
    }
    if keys["prompt_tokens"][rows[0]] >= 0:
        facts["tokens"] = {side: _spread(keys[f"{side}_tokens"][rows]) for side in SIDES}
        facts["tokens"]["pair"] = _spread(total_tokens(keys[rows]))
    return facts


def shared_prompts(keys: Any, splits: dict[str, Any]) -> int:
    """Return how many prompts are in more than one split: the proof that it is none."""
    distinct = [_distinct(keys["prompt"][rows]) for rows in splits.values()]
    everywhere = np.concatenate(distinct)
    return len(everywhere) - len(_distinct(everywhere))


def changed(keys: Any, kept: Any) -> dict[str, int]:
    """Return how many kept rows were altered, by what was done."""
    bits = keys["changes"][kept]
    counts = {name: int(np.count_nonzero(bits & (1 << place))) for place, name in enumerate(CHANGES)}
    return {name: count for name, count in sorted(counts.items()) if count}


def _turns(messages: Any) -> dict[str, int]:
    counts = np.bincount(messages)
    return {str(turns): int(counts[turns]) for turns in np.flatnonzero(counts)[:40].tolist()}


def _distinct(values: Any) -> Any:
    """Return each value once, in order: twice as fast as np.unique, which loads another part of numpy first."""
    ordered = np.sort(values)
    return ordered[np.append(True, ordered[1:] != ordered[:-1])] if len(ordered) else ordered


def _spread(values: Any) -> dict[str, int]:
    ordered = np.sort(values)
    return {"p50": _at(ordered, 0.5), "p95": _at(ordered, 0.95), "p99": _at(ordered, 0.99), "max": int(ordered[-1])}


def _at(values: Any, share: float) -> int:
    """Return the nearest-rank percentile."""
    ordered = np.sort(values)
    return int(ordered[min(int(share * len(ordered)), len(ordered) - 1)])


def _histogram(values: Any) -> dict[str, list[int]]:
    """Count lengths in bins of growing width: lengths of text spread over powers of ten."""
    top = max(int(values.max()), 2)
    edges = _distinct(np.geomspace(1, top + 1, BINS + 1).astype(np.int64))
    counts, _ = np.histogram(np.maximum(values, 1), edges)
    return {"edges": edges.tolist(), "counts": counts.tolist()}
