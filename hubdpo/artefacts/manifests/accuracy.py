"""How well a model ranks pairs: shares with their intervals, and whether two models differ by more than chance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, Field, ValidationInfo

Count = Annotated[int, Field(ge=0, le=2**53)]
"""A number of things; above 2**53 other readers of JSON round it."""


def _finite(value: float, info: ValidationInfo) -> float:
    if info.context == READ and not math.isfinite(value):
        raise ValueError("must be a finite number")
    return value


READ = "read"
"""Context of pydantic for a manifest that is read; what is measured here may be NaN until it is judged."""
Number = Annotated[float, AfterValidator(_finite)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class Accuracy(BaseModel):
    """Share of pairs ranked right, with the 95 % Wilson interval (Wilson 1927)."""

    value: Share
    low: Share
    high: Share

    @classmethod
    def of(cls, right: int, total: int) -> Self:
        """Raise ValueError for no pairs at all."""
        if total < 1:
            raise ValueError("an accuracy needs at least one pair")
        z = 1.959963984540054  # normal quantile of 97.5 %
        share = right / total
        scale = 1 + z * z / total
        middle = (share + z * z / (2 * total)) / scale
        half = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total)) / scale
        return cls(value=share, low=max(0.0, middle - half), high=min(1.0, middle + half))

    @classmethod
    def mean(cls, one: Self, other: Self) -> Self:
        """Return the mean of two independent shares, its interval by the square-and-add rule (Newcombe 1998)."""
        middle = (one.value + other.value) / 2
        down = math.hypot(one.value - one.low, other.value - other.low) / 2
        up = math.hypot(one.high - one.value, other.high - other.value) / 2
        return cls(value=middle, low=max(0.0, middle - down), high=min(1.0, middle + up))


class Stratum(BaseModel):
    """Log-likelihood accuracy, length-normalised, among some of the pairs."""

    pairs: Count
    base: Accuracy
    adapter: Accuracy


def mcnemar(before: Sequence[bool], after: Sequence[bool]) -> tuple[int, int, float]:
    """Return how many pairs only `after` has right, how many only `before`, and the two-sided exact p (McNemar 1947).

    Pairs that both have right or both wrong say nothing; of the others, each would go either way with probability 1/2.
    """
    gained = sum(new and not old for old, new in zip(before, after, strict=True))
    lost = sum(old and not new for old, new in zip(before, after, strict=True))
    total = gained + lost
    ways = tail = 1  # how many of the 2**total outcomes have this many on the smaller side; the sum so far
    for place in range(min(gained, lost)):
        ways = ways * (total - place) // (place + 1)
        tail += ways
    return gained, lost, min(1.0, 2 * tail / 2**total)
