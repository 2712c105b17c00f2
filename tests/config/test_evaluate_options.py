"""Options of an evaluation that need one another."""

from __future__ import annotations

import pytest

from hubdpo.config import EvaluateConfig
from hubdpo.errors import ConfigError


@pytest.mark.parametrize(
    ("options", "message", "hint"),
    [
        ({"rubric": "harmless"}, "`--rubric` is for a judge, and none is given", "--judge URL"),
        ({"judge_requests": 2}, "`--judge-requests` is for a judge, and none is given", "--judge URL"),
        ({"judge_max_tokens": 64}, "`--judge-max-tokens` is for a judge, and none is given", "--judge URL"),
        ({"lm_eval_limit": 5}, "`--lm-eval-limit` is for tasks, and none is given", "--lm-eval TASK"),
        ({"judge_model": "m"}, "`--judge-model` needs the server that has it", "--judge http"),
        ({"judge": "http://127.0.0.1:1/v1"}, "`--judge` needs the name of a model", "--judge-model NAME"),
    ],
)
def test_an_option_that_would_do_nothing_is_refused(options: dict[str, object], message: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        EvaluateConfig.build({"model": "run", **options})
    assert message in caught.value.message
    assert hint in (caught.value.hint or "")


def test_an_option_beside_what_it_is_for_is_taken() -> None:
    config = EvaluateConfig.build(
        {
            "model": "run", "judge": "http://127.0.0.1:1/v1", "judge_model": "m", "rubric": "harmless",
            "lm_eval": "gsm8k", "lm_eval_limit": 5,
        }
    )  # fmt: skip
    assert (config.rubric, config.lm_eval) == ("harmless", ["gsm8k"])
