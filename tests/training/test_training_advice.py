"""Each pattern in the metrics gets its sentence, and a plain run gets none."""

from __future__ import annotations

from typing import Any

import pytest

from hubdpo.training.run.advice import explain_metrics


def run(
    losses: list[float], chosen: float = 0.0, rejected: float = -5.0, accuracy: float = 0.8
) -> list[dict[str, Any]]:
    """Lines of a run whose log-probs move by these amounts from the first to the last step."""
    count = len(losses)
    lines: list[dict[str, Any]] = [
        {
            "step": i, "loss": loss, "logps/chosen": -50 + chosen * i / (count - 1),
            "logps/rejected": -50 + rejected * i / (count - 1),
        }
        for i, loss in enumerate(losses)
    ]  # fmt: skip
    return [*lines, {"step": count, "eval_loss": losses[-1], "eval_rewards/accuracies": accuracy}]


def said(lines: list[dict[str, Any]], losses: tuple[str, ...] = ("sigmoid",), test_pairs: int = 200) -> str:
    return " ".join(explain_metrics(lines, losses=list(losses), learning_rate=5e-6, test_pairs=test_pairs))


FALLING = [0.69 - 0.02 * i for i in range(20)]


def test_a_plain_run_gets_no_advice() -> None:
    assert said(run(FALLING)) == ""


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (run([0.6931] * 20), "ln 2"),
        (run([0.7 + 0.05 * i for i in range(20)]), "--learning-rate 5e-07"),
        (run(FALLING, chosen=-30, rejected=-40), "both answers fell"),
        (run(FALLING, accuracy=0.52), "cannot tell from chance"),
    ],
)
def test_each_pattern_has_its_sentence(lines: list[dict[str, Any]], words: str) -> None:
    assert words in said(lines)


def test_the_same_accuracy_means_more_with_more_pairs() -> None:
    assert said(run(FALLING, accuracy=0.56), test_pairs=50)
    assert not said(run(FALLING, accuracy=0.56), test_pairs=5000)


def test_ln_2_means_nothing_for_other_losses() -> None:
    assert said(run([0.6931] * 20), losses=("ipo",)) == ""


def test_ln_2_means_nothing_where_weights_or_margins_move_the_loss() -> None:
    found = explain_metrics(run([0.6931] * 20), losses=["sigmoid"], moved=True, learning_rate=5e-6, test_pairs=200)
    assert found == []


def test_no_likelihood_term_is_advised_where_there_is_one() -> None:
    assert said(run(FALLING, chosen=-30, rejected=-40), losses=("orpo",)) == ""


def test_a_few_steps_are_too_few_to_judge() -> None:
    assert said(run([0.6931] * 4)) == ""


def overfitting(held_out: list[float], losses: list[float] = FALLING) -> list[dict[str, Any]]:
    """Lines of a run that was evaluated as often, evenly spread over its steps."""
    every = len(losses) // len(held_out)
    return [
        *({"step": i + 1, "loss": loss} for i, loss in enumerate(losses)),
        *({"step": every * (i + 1), "eval_loss": loss} for i, loss in enumerate(held_out)),
    ]


@pytest.mark.parametrize(
    ("kept", "words"), [([10, 15], "its adapter is in `checkpoint-10`"), ([15, 20], "no checkpoint")]
)
def test_overfitting_is_named_with_the_best_checkpoint(kept: list[int], words: str) -> None:
    lines = overfitting([0.66, 0.60, 0.64, 0.70])
    (sentence,) = explain_metrics(lines, losses=["ipo"], learning_rate=1e-4, test_pairs=9, checkpoints=kept)
    assert "rose from 0.6000 at step 10 to 0.7000 at step 20" in sentence
    assert words in sentence
    assert "`--load-best-model-at-end`" in sentence


@pytest.mark.parametrize(
    "lines",
    [
        overfitting([0.66, 0.62, 0.60, 0.605]),  # within what evaluations differ by
        overfitting([0.66, 0.62, 0.60, 0.58]),
        overfitting([0.60, 0.64, 0.70, 0.75], losses=[0.5 + 0.02 * i for i in range(20)]),  # nothing is learned at all
        overfitting([0.60]),
    ],
)
def test_no_advice_unless_the_held_out_loss_rises_against_the_training_loss(
    lines: list[dict[str, Any]],
) -> None:
    assert "overfits" not in said(lines)


def test_a_small_margin_is_not_called_nothing() -> None:
    lines = run([0.6929] * 20, accuracy=1.0)
    assert "has learned nothing" not in said(lines)
    assert "in 100% of the pairs: it has changed little" in said(lines)
