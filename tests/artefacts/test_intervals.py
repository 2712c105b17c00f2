"""Means and their bootstrap intervals."""

from __future__ import annotations

import numpy as np
import pytest

from hubdpo.artefacts.manifests import intervals
from hubdpo.artefacts.manifests.intervals import Interval


def test_the_interval_of_a_mean_is_that_of_the_normal_distribution_where_there_are_many_values() -> None:
    values = np.random.default_rng(3).normal(0.5, 2.0, 400)
    found = Interval.of_mean(values)
    half = 1.96 * values.std(ddof=1) / 20
    assert found.value == values.mean()
    assert found.low == pytest.approx(values.mean() - half, abs=0.03)
    assert found.high == pytest.approx(values.mean() + half, abs=0.03)


def test_many_values_are_not_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(3).normal(0.5, 2.0, 400)
    drawn = Interval.of_mean(values)
    monkeypatch.setattr(intervals, "MOST_RESAMPLED", 399)
    assert Interval.of_mean(values).low == pytest.approx(drawn.low, abs=0.03)
    assert Interval.of_mean(values) != drawn


def test_an_interval_of_skewed_values_is_not_symmetric() -> None:
    found = Interval.of_mean([0.0] * 19 + [1.0])
    assert found.low == 0
    assert found.high - found.value > found.value - found.low


def test_the_same_values_have_the_same_interval_however_many_are_drawn_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    values = list(map(float, range(50)))
    whole = Interval.of_mean(values)
    monkeypatch.setattr(intervals, "AT_ONCE", 50 * 7)
    assert Interval.of_mean(values) == whole


def test_no_values_have_no_mean() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Interval.of_mean([])


@pytest.mark.parametrize("most", [20_000, 50])
def test_a_weighted_mean_is_that_of_all_tokens(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    monkeypatch.setattr(intervals, "MOST_RESAMPLED", most)
    draws = np.random.default_rng(5)
    tokens = draws.integers(1, 40, 300)
    sums = draws.normal(2.0, 0.5, 300) * tokens
    found = Interval.of_mean(sums / tokens, tokens)
    assert found.value == pytest.approx(sums.sum() / tokens.sum())
    # the delta method: the variance of a ratio of two means
    error = np.sqrt(((sums - found.value * tokens) ** 2).mean() / 300) / tokens.mean()
    assert (found.low, found.high) == pytest.approx((found.value - 1.96 * error, found.value + 1.96 * error), abs=0.01)
    assert found != Interval.of_mean(sums / tokens)
