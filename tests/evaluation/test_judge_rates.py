"""The win rate at equal length finds what was planted, whatever the judge thinks of length."""

from __future__ import annotations

import numpy as np
import pytest

from hubdpo.evaluation.judge.rates import length_controlled, win_rate
from tests.near import assert_near


def planted(rng: np.random.Generator, prompts: int, *, quality: float, length: float) -> tuple[np.ndarray, np.ndarray]:
    """Scores of a judge whose log odds are quality + length * tanh(d / std(d)), and the differences d."""
    differences = np.round(rng.normal(20, 40, prompts))
    odds = quality + length * np.tanh(differences / differences.std())
    return (rng.random(prompts) < 1 / (1 + np.exp(-odds))).astype(float), differences


@pytest.mark.parametrize(("quality", "length"), [(0.0, 2.0), (1.0, 2.0), (1.0, -2.0), (0.0, 0.0)])
def test_the_planted_quality_is_found_whatever_the_length_does(quality: float, length: float) -> None:
    rate = 1 / (1 + np.exp(-quality))
    found = [
        length_controlled(*planted(np.random.default_rng(seed), 60, quality=quality, length=length))
        for seed in range(60)
    ]
    held = [each.low <= rate <= each.high for each in found if each is not None]
    assert len(held) == 60
    assert sum(held) >= 52  # 95 % of 60 are 57; fewer than 52 come about once in 500
    assert_near(np.mean([each.value for each in found if each is not None]), rate, share=0.06)


def test_lengths_that_decide_every_verdict_leave_one_half() -> None:
    differences = np.array([-30.0, -20, -12, -4, 3, 8, 11, 15, 22, 27, 31, 40])
    scores = (differences > 0).astype(float)
    found = length_controlled(scores, differences)
    assert found is not None
    assert win_rate(scores).value == pytest.approx(8 / 12)
    assert abs(found.value - 0.5) < 0.1
    assert found.low < 0.2 < 0.8 < found.high  # hardly anything is known


def test_equal_lengths_change_nothing() -> None:
    scores = np.array([1.0, 1, 1, 0, 0.5, 1, 0, 1])
    found, raw = length_controlled(scores, np.zeros(8)), win_rate(scores)
    assert found is not None
    assert_near(found.value, raw.value, share=0.05)


@pytest.mark.parametrize("differences", [[5.0, 9, 20, 31], [-5.0, -9, -20, -31], [7.0, 7, 7, 7], [1.0, -1]])
def test_a_model_that_always_writes_more_cannot_be_told_from_a_better_one(differences: list[float]) -> None:
    assert length_controlled(np.ones(len(differences)), np.array(differences)) is None


def test_wins_alone_leave_room_for_a_loss() -> None:
    rate = win_rate(np.ones(24))
    assert rate.value == rate.high == 1
    assert 0.75 < rate.low < 0.95


def test_one_prompt_says_next_to_nothing() -> None:
    rate = win_rate(np.array([1.0]))
    assert rate.low < 0.05


def test_ties_alone_are_one_half() -> None:
    rate = win_rate(np.full(30, 0.5))
    assert rate.value == 0.5
    assert_near(rate.low, 1 - rate.high, share=1e-6)


def test_the_interval_of_a_win_rate_is_that_of_a_share() -> None:
    # Gart's interval of the log odds (Gart 1966) is near Wilson's, which for 30 of 50 is 0.4618 to 0.7239
    rate = win_rate(np.array([1.0] * 30 + [0.0] * 20))
    assert_near(rate.low, 0.4618, share=0.02)
    assert_near(rate.high, 0.7239, share=0.02)
