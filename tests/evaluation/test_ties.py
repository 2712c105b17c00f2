"""A tie counts half: of two answers that a model, or a rule, cannot tell apart, a coin picks one."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from hubdpo.artefacts.manifests.evaluation import EvalReport
from hubdpo.artefacts.manifests.intervals import Accuracy, mcnemar
from hubdpo.evaluation.models import ADAPTER, BASE
from hubdpo.evaluation.ranking import _ranking
from hubdpo.evaluation.scoring import Scores, ranked_right
from tests.cards.made import adapter_card, report

LENGTHS = np.array([[9, 3]] * 17 + [[3, 9]] * 13 + [[5, 5]] * 12).T
"""Tokens of the chosen and the rejected answers of 42 pairs."""
UNSURE = Scores(*-LENGTHS.astype(float), *LENGTHS)
"""A model to which every token is as likely."""


def sure(right: int) -> Scores:
    """A model that ranks the first pairs correctly, and no other."""
    chosen = np.where(np.arange(42) < right, -1.0, -3.0) * LENGTHS[0]
    return Scores(chosen, -2.0 * LENGTHS[1], *LENGTHS)


def test_a_margin_of_nothing_is_half_right() -> None:
    assert ranked_right(np.array([-2.0, -0.0, 0.0, 1e-300])).tolist() == [0.0, 0.5, 0.5, 1.0]
    assert ranked_right(np.array([-3, 0, 4])).tolist() == [0.0, 0.5, 1.0]


def test_a_coin_picks_where_both_answers_have_as_many_tokens() -> None:
    found = _ranking({BASE: UNSURE, ADAPTER: sure(20)}, beta=0.1)
    assert found.longer_answer_accuracy == Accuracy.of(17 + 6, 42)
    assert found.as_long == 12


def test_a_model_that_tells_nothing_apart_is_right_as_often_as_a_coin() -> None:
    found = _ranking({BASE: UNSURE, ADAPTER: UNSURE}, beta=0.1)
    assert found.base_accuracy.value == found.adapter_accuracy.value == found.reward_accuracy.value == 0.5


@pytest.mark.parametrize("right", [21, 42, 0])
def test_a_coin_is_beaten_by_what_is_right_more_often_than_it(right: int) -> None:
    found = _ranking({BASE: UNSURE, ADAPTER: sure(right)}, beta=0.1)
    assert (found.only_adapter_right, found.only_base_right) == (right, 42 - right)
    assert found.mcnemar_p == pytest.approx(binomtest(right, 42).pvalue)
    assert found.accuracy_gain is not None
    assert found.accuracy_gain.value == pytest.approx(right / 42 - 0.5)


def test_a_tie_stands_between_right_and_wrong() -> None:
    assert mcnemar([0.0, 0.5, 0.5, 1.0, 0.5], [0.5, 1.0, 0.5, 0.5, 1.0])[:2] == (3, 1)


@pytest.mark.parametrize("total", [1, 2, 7, 42, 957])
def test_the_interval_of_whole_numbers_is_scipys_and_that_of_a_half_lies_between(total: int) -> None:
    for right in range(total):
        low, high = binomtest(right, total).proportion_ci(0.95, method="wilson")
        below, half, above = (Accuracy.of(each, total) for each in (right, right + 0.5, right + 1))
        assert (below.low, below.high) == pytest.approx((low, high), abs=1e-12)
        assert below.low <= half.low <= above.low and below.high <= half.high <= above.high
        assert half.low < half.value < half.high


OLD = {"longer_answer_accuracy": Accuracy.of(585, 957)}
"""As hubdpo 0.4 wrote it, of 585 pairs whose chosen answer is longer, 360 whose is shorter, and 12 that are as long."""


def test_a_report_of_hubdpo_0_4_is_read_as_one_of_today() -> None:
    found = EvalReport.model_validate(report(**OLD).model_dump() | {"original": report(**OLD).model_dump()})
    assert found.original is not None
    assert found.longer_answer_accuracy == found.original.longer_answer_accuracy == Accuracy.of(591, 957)
    assert EvalReport.model_validate(found.model_dump()) == found


@pytest.mark.parametrize("right", [0, 30])
def test_a_report_that_does_not_tell_the_ties_stays_as_it_is(right: int) -> None:
    told = {"longer_answer_accuracy": Accuracy.of(right, 957), "chosen_longer": None, "chosen_shorter": None}
    assert report(**told, mcnemar_p=None).longer_answer_accuracy.value == right / 957


def test_a_report_of_hubdpo_0_4_without_any_difference_of_length_is_all_ties() -> None:
    told = {"longer_answer_accuracy": Accuracy.of(0, 957), "chosen_longer": None, "chosen_shorter": None}
    assert report(**told).longer_answer_accuracy.value == 0.5


def test_the_card_tells_how_many_pairs_are_ties() -> None:
    card = " ".join(adapter_card(evaluation=report()).split())
    assert "It leaves out 12 pairs whose answers have as many tokens; picking the longer one counts them half." in card
    assert f"would be right in {100 * 591 / 957:.1f} %" in card
