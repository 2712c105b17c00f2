"""The limits to which an evaluation cuts its pairs, beside those of the training."""

from __future__ import annotations

import pytest

from hubdpo.config import EvaluateConfig
from hubdpo.errors import ConfigError
from hubdpo.evaluation.held_out import MAX_LENGTH, limits
from tests.cards.made import run_manifest

TRAINED = {"max_length": 512, "max_prompt_length": 200}


def limits_of(most: int | None, **options: object) -> tuple[int, int]:
    return limits(EvaluateConfig(model="run", max_length=most), run_manifest(config=options))


@pytest.mark.parametrize(
    ("most", "found"), [(None, (512, 200)), (201, (201, 200)), (200, (200, 100)), (195, (195, 97)), (2, (2, 1))]
)
def test_prompts_keep_the_budget_of_the_training_while_it_leaves_room_for_answers(
    most: int | None, found: tuple[int, int]
) -> None:
    assert limits_of(most, **TRAINED) == found


@pytest.mark.parametrize("most", range(2, 300, 7))
def test_every_limit_leaves_tokens_for_prompt_and_answers(most: int) -> None:
    for options in ({}, TRAINED, {"max_length": 64}):
        found, budget = limits_of(most, **options)
        assert 0 < budget < found == most


def test_another_budget_than_that_of_the_training_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    limits_of(201, **TRAINED)
    assert capsys.readouterr().err == ""
    limits_of(200, **TRAINED)
    assert "cut to 100 tokens and not, as in the training, to 200" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("told", [{"max_length": 0}, {"max_length": -8}, {"max_length": 1, "max_prompt_length": -1}])
def test_impossible_limits_in_a_run_are_not_taken(told: dict[str, int]) -> None:
    run = run_manifest()
    run = run.model_copy(update={"config": {"max_length": 64, **told}})
    assert limits(EvaluateConfig(model="run"), run) == (MAX_LENGTH, MAX_LENGTH // 2)


def test_a_limit_that_holds_no_prompt_with_its_answer_is_refused() -> None:
    with pytest.raises(ConfigError, match="2"):
        EvaluateConfig.build({"model": "run", "max_length": 1})
