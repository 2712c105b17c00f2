"""How often a model ranks pairs correctly, with confidence intervals, and a test of the difference of two models."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, NamedTuple, Self

from pydantic import AfterValidator, BaseModel, Field, ValidationInfo

Count = Annotated[int, Field(ge=0, le=2**53)]
"""A count; other readers of JSON round numbers above 2**53."""

READ = "read"
"""Validation context of a manifest that is read from a file; values in the making may be NaN until they are judged."""


def _finite(value: float, info: ValidationInfo) -> float:
    if info.context == READ and not math.isfinite(value):
        raise ValueError("must be a finite number")
    return value


Number = Annotated[float, AfterValidator(_finite)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class Difference(NamedTuple):
    """Difference of two shares, and the bounds of its 95 % interval."""

    value: float
    low: float
    high: float


class Accuracy(BaseModel):
    """Share of correctly ranked pairs, with its 95 % Wilson interval (Wilson 1927)."""

    value: Share
    low: Share
    high: Share

    @classmethod
    def of(cls, right: int, total: int) -> Self:
        """Raise ValueError if `total` is 0."""
        if total < 1:
            raise ValueError("an accuracy needs at least one pair")
        from scipy.stats import binomtest

        interval = binomtest(right, total).proportion_ci(0.95, method="wilson")
        return cls(value=right / total, low=max(0.0, interval.low), high=min(1.0, interval.high))

    @classmethod
    def mean(cls, one: Self, other: Self) -> Self:
        """Return the mean of two independent shares, with an interval by Newcombe's square-and-add rule (1998)."""
        middle = (one.value + other.value) / 2
        down = math.hypot(one.value - one.low, other.value - other.low) / 2
        up = math.hypot(one.high - one.value, other.high - other.value) / 2
        return cls(value=middle, low=max(0.0, middle - down), high=min(1.0, middle + up))

    def minus(self, other: Accuracy) -> Difference:
        """Return the difference of two independent shares, with an interval by the same rule (method 10)."""
        value = self.value - other.value
        down = math.hypot(self.value - self.low, other.high - other.value)
        up = math.hypot(self.high - self.value, other.value - other.low)
        return Difference(value, value - down, value + up)


class Stratum(BaseModel):
    """Length-normalised log-likelihood accuracy among some of the pairs."""

    pairs: Count
    base: Accuracy
    adapter: Accuracy


class McNemar(NamedTuple):
    """Exact McNemar test: pairs that only the second model ranks correctly, pairs that only the first does, and p."""

    gained: int
    lost: int
    p: float


def mcnemar(before: Sequence[bool], after: Sequence[bool]) -> McNemar:
    """Compare two models on the same pairs, two-sided (McNemar 1947).

    Pairs on which both agree say nothing; under the null hypothesis the others go either way with probability 1/2.
    """
    gained = sum(new and not old for old, new in zip(before, after, strict=True))
    lost = sum(old and not new for old, new in zip(before, after, strict=True))
    if gained + lost == 0:
        return McNemar(0, 0, 1.0)
    from scipy.stats import binomtest

    return McNemar(gained, lost, float(binomtest(gained, gained + lost).pvalue))
