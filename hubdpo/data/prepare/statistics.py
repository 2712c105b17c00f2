"""Statistics of the splits, from the row keys of the kept pairs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from hubdpo.artefacts.formats.messages import COLUMNS
from hubdpo.data.clean.decide import total_tokens
from hubdpo.data.clean.keys import RowKeys
from hubdpo.data.clean.near_duplicates import Rows

BINS = 24
MOST_TURNS = 40
"""Numbers of messages whose prompts are counted, the smallest that occur."""

Lengths = npt.NDArray[np.integer]
Number = TypeVar("Number", bound=np.generic)


def summary(keys: RowKeys, rows: Rows) -> dict[str, object]:
    """Summarise a split: number of pairs and prompts, messages per prompt, lengths, histograms and length bias.

    Lengths are in characters, and in tokens as well if a tokenizer counted. `chosen_is_longer` is the share of pairs
    whose chosen answer has more characters, `as_long` that of pairs whose answers have as many. Histograms are
    {edges, counts}.
    """
    messages = keys["messages"][rows]
    counts = np.bincount(messages)
    characters = {side: keys[f"{side}_characters"][rows] for side in COLUMNS}
    statistics: dict[str, object] = {
        "pairs": len(rows),
        "distinct_prompts": len(_distinct(keys["prompt"][rows])),
        "prompt_messages": {
            "min": int(messages.min()), "median": _percentile(np.sort(messages), 0.5), "max": int(messages.max()),
        },
        "characters": {side: _percentiles(values) for side, values in characters.items()},
        "chosen_is_longer": _share(characters["chosen"] > characters["rejected"]),
        "as_long": _share(characters["chosen"] == characters["rejected"]),
        "histograms": {side: _histogram(values) for side, values in characters.items()},
        "turns": {str(turns): int(counts[turns]) for turns in np.flatnonzero(counts)[:MOST_TURNS].tolist()},
    }  # fmt: skip
    if keys["prompt_tokens"][rows[0]] >= 0:
        tokens = {side: _percentiles(keys[f"{side}_tokens"][rows]) for side in COLUMNS}
        statistics["tokens"] = {**tokens, "pair": _percentiles(total_tokens(keys[rows]))}
    return statistics


def shared_prompts(keys: RowKeys, splits: dict[str, Rows]) -> int:
    """Count prompts that are in more than one split."""
    distinct = [_distinct(keys["prompt"][rows]) for rows in splits.values()]
    together = np.concatenate(distinct)
    return len(together) - len(_distinct(together))


def count_bits(flags: npt.NDArray[np.uint8], rows: dict[str, Rows], names: Sequence[str]) -> dict[str, int]:
    """Count the rows of all splits that have each bit, by the names of the bits from the lowest."""
    bits = [flags[kept] for kept in rows.values()]
    counts = {name: sum(int(np.count_nonzero(some & (1 << bit))) for some in bits) for bit, name in enumerate(names)}
    return {name: count for name, count in counts.items() if count}


def _share(holds: npt.NDArray[np.bool_]) -> float:
    return round(float(np.mean(holds)), 4)


def _distinct(values: npt.NDArray[Number]) -> npt.NDArray[Number]:
    """Return the distinct values, sorted: twice as fast as np.unique, which first imports more of numpy."""
    ordered = np.sort(values)
    return ordered[np.append(True, ordered[1:] != ordered[:-1])] if len(ordered) else ordered


def _percentiles(values: Lengths) -> dict[str, int]:
    ordered = np.sort(values)
    shares = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "max": 1.0}
    return {name: _percentile(ordered, share) for name, share in shares.items()}


def _percentile(ordered: Lengths, share: float) -> int:
    """Return the nearest-rank percentile of sorted values."""
    return int(ordered[min(int(share * len(ordered)), len(ordered) - 1)])


def _histogram(values: Lengths) -> dict[str, list[int]]:
    """Count lengths in BINS bins that grow geometrically, as text lengths spread over powers of ten."""
    top = max(int(values.max()), 2)
    edges = _distinct(np.geomspace(1, top + 1, BINS + 1).astype(np.int64))
    counts, _ = np.histogram(np.maximum(values, 1), edges)
    return {"edges": edges.tolist(), "counts": counts.tolist()}
