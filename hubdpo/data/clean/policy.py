"""How many pairs of a source are written, and how often: `max_rows` and `weight` of its description."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hubdpo.config.description import SourceConfig
from hubdpo.data.clean.keys import Hashes, RowKeys, draws, uniform

FOR_ROWS, FOR_WEIGHT = 1, 2
"""Purposes of `draws`: which pairs are within `max_rows`, and which a fraction of `weight` takes."""


@dataclass(frozen=True)
class SourceOfRows:
    """The source of each row, as its index in `sources`, (rows,)."""

    sources: Sequence[SourceConfig]
    numbers: npt.NDArray[np.integer]


def beyond(keys: RowKeys, most: int, seed: int) -> npt.NDArray[np.intp]:
    """Return the indices of the pairs to drop, so that `most` are left. The order of the pairs does not matter.

    The pairs of a prompt stay together, but for one prompt.
    """
    order = np.lexsort((keys["flipped"], keys["high"], keys["low"], draws(keys["prompt"], seed, FOR_ROWS)))
    return order[most:]


def times(prompts: Hashes, weight: float, seed: int) -> npt.NDArray[np.uint8]:
    """Return how often the pairs with these prompts are written, (rows,): `weight` times on average."""
    whole = int(weight)
    return whole + (uniform(prompts, seed, FOR_WEIGHT) < weight - whole).astype(np.uint8)
