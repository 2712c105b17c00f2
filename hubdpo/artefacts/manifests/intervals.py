"""Shares and means with their 95 % intervals, and the test of two models on the same pairs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel

from hubdpo.artefacts.manifests.manifest import Number, Share

RESAMPLES = 2000
MOST_RESAMPLED = 20_000
"""Values of which means are bootstrapped; of more, the normal interval of the mean is the same to two digits."""
AT_ONCE = 2_000_000
"""Values that are drawn together, 16 MB of them."""
NORMAL = 1.959963984540054
"""97.5 % quantile of the normal distribution."""


class Accuracy(BaseModel):
    """Share of correctly ranked pairs, a tie counting half, with its 95 % Wilson interval (Wilson 1927)."""

    value: Share
    low: Share
    high: Share

    @classmethod
    def of(cls, right: float, total: int) -> Self:
        """Return the share of `total` pairs that `right` is. With ties in it, the interval is wider than it need be.

        A half varies less than the right and the wrong pair that it stands for. Raise ValueError if `total` is 0.
        """
        if total < 1:
            raise ValueError("an accuracy needs at least one pair")
        value, more = right / total, NORMAL**2 / total
        middle = (value + more / 2) / (1 + more)
        half = NORMAL * math.sqrt((value * (1 - value) + more / 4) / total) / (1 + more)
        return cls(value=value, low=max(0.0, middle - half), high=min(1.0, middle + half))

    @classmethod
    def mean(cls, one: Self, other: Self) -> Self:
        """Return the mean of two independent shares, with an interval by Newcombe's square-and-add rule (1998)."""
        middle = (one.value + other.value) / 2
        down = math.hypot(one.value - one.low, other.value - other.low) / 2
        up = math.hypot(one.high - one.value, other.high - other.value) / 2
        return cls(value=middle, low=max(0.0, middle - down), high=min(1.0, middle + up))

    def minus(self, other: Accuracy) -> Interval:
        """Return the difference of two independent shares, with an interval by the same rule (method 10)."""
        value = self.value - other.value
        down = math.hypot(self.value - self.low, other.high - other.value)
        up = math.hypot(self.high - self.value, other.value - other.low)
        return Interval(value=value, low=value - down, high=value + up)


class Interval(BaseModel):
    """A mean, or a difference of means, with its 95 % interval."""

    value: Number
    low: Number
    high: Number

    @classmethod
    def of_mean(
        cls, values: Sequence[float] | npt.NDArray[np.float64], weights: npt.NDArray[np.int64] | None = None
    ) -> Self:
        """Return the mean and its percentile bootstrap interval (Efron 1979), from draws with a fixed seed.

        Give the differences of two models on the same pairs for the interval of their paired difference, and the
        tokens of each answer as `weights` of its mean over them. Raise ValueError if there are no values.
        """
        each = np.asarray(values, dtype=np.float64)
        if not len(each):
            raise ValueError("a mean needs at least one value")
        weight = np.ones(len(each)) if weights is None else weights.astype(np.float64)
        total = each * weight
        mean = float(total.sum() / weight.sum())
        if len(each) > MOST_RESAMPLED:
            # of a ratio of sums, by linearisation (Cochran 1977, section 2.11)
            half = NORMAL * float((total - mean * weight).std(ddof=1)) / (math.sqrt(len(each)) * float(weight.mean()))
            return cls(value=mean, low=mean - half, high=mean + half)
        draws, rows = np.random.default_rng(0), max(1, AT_ONCE // len(each))
        means = []
        for done in range(0, RESAMPLES, rows):
            drawn = draws.integers(len(each), size=(min(rows, RESAMPLES - done), len(each)))
            means.append(total[drawn].sum(axis=1) / weight[drawn].sum(axis=1))
        low, high = np.quantile(np.concatenate(means), (0.025, 0.975))
        return cls(value=mean, low=float(low), high=float(high))


class McNemar(NamedTuple):
    """Exact McNemar test: pairs that the second model ranks better, pairs that the first does, and p."""

    gained: int
    lost: int
    p: float


def mcnemar(before: Sequence[float], after: Sequence[float]) -> McNemar:
    """Compare two models on the same pairs, two-sided (McNemar 1947): 1 for a pair ranked correctly, 0 for a wrong one.

    Pairs on which both agree say nothing; under the null hypothesis the others go either way with probability 1/2. With
    1/2 for a tie it is the sign test, in which a model that tells no answers apart is no worse than a coin.
    """
    gained = sum(new > old for old, new in zip(before, after, strict=True))
    lost = sum(new < old for old, new in zip(before, after, strict=True))
    if gained + lost == 0:
        return McNemar(0, 0, 1.0)
    from scipy.stats import binomtest

    return McNemar(gained, lost, float(binomtest(gained, gained + lost).pvalue))
