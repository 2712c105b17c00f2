"""`eval_pairs.jsonl` of a run: what base and adapter give the answers of each held-out pair.

It holds numbers and the row of each pair in the test split, and no text of the dataset. Log-probabilities are sums over
the scored tokens of an answer, in nats. The reward margin of DPO (arXiv 2305.18290, equation 5) follows from them:
`beta * ((adapter_chosen - base_chosen) - (adapter_rejected - base_rejected))`, with `start_` in place of `base_` for a
run that started from another adapter and had it as its reference.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from hubdpo import console
from hubdpo.artefacts.formats.bounded import HINT, check_size
from hubdpo.errors import ArtefactError

Numbers = npt.NDArray[np.int64] | npt.NDArray[np.float64]
COUNTS = ("row", "chosen_tokens", "rejected_tokens")
MODELS = ("base", "adapter")
START = "start"
"""The adapter that the run started from; these columns are there where it is the reference of the rewards."""
MOST_PAIRS = 400_000
"""Pairs of a file, each of at most 300 bytes."""


def columns_of(model: str) -> tuple[str, str]:
    return f"{model}_chosen", f"{model}_rejected"


def to_lines(columns: Mapping[str, Numbers]) -> bytes:
    """Return columns `[pairs]` as JSON lines, in which floats keep every bit; of more than MOST_PAIRS the first."""
    pairs = len(next(iter(columns.values())))
    if pairs > MOST_PAIRS:
        console.warn(f"of {pairs:,} held-out pairs, the scores of the first {MOST_PAIRS:,} are kept")
    rows = zip(*(values[:MOST_PAIRS].tolist() for values in columns.values()), strict=True)
    return b"".join(orjson.dumps(dict(zip(columns, row, strict=True))) + b"\n" for row in rows)


def from_lines(data: bytes, name: str) -> dict[str, Numbers]:
    """Read the columns `[pairs]` of the file `name`. Raise ArtefactError for anything that hubdpo does not write."""
    check_size(name, len(data))
    lines = data.splitlines()
    if not 1 <= len(lines) <= MOST_PAIRS:
        raise ArtefactError(f"`{name}` has {len(lines):,} lines, and 1 to {MOST_PAIRS:,} are read", hint=HINT)
    wanted = (*COUNTS, *(column for model in MODELS for column in columns_of(model)))
    if b'"start_chosen"' in lines[0]:
        wanted += columns_of(START)
    values: list[list[Any]] = []
    for number, line in enumerate(lines, start=1):
        try:
            row = orjson.loads(line)
            values.append([row[column] for column in wanted])
            is_sound = len(row) == len(wanted) and all(map(_is_sound, wanted, values[-1]))
        except (ValueError, KeyError, TypeError):
            is_sound = False
        if not is_sound:
            raise ArtefactError(f"`{name}`, line {number:,}: these are not the scores of a pair", hint=HINT)
    return {column: np.array(each) for column, each in zip(wanted, zip(*values, strict=True), strict=True)}


def _is_sound(column: str, value: object) -> bool:
    if column in COUNTS:
        return type(value) is int and (column != "row") <= value < 2**53  # no answer without tokens
    return type(value) is float
