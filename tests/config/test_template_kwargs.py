"""`--chat-template-kwargs` as it may be typed."""

from __future__ import annotations

from typing import Any

import pytest

from hubdpo.config import PrepareConfig, TrainConfig
from hubdpo.config.roles import Role
from hubdpo.errors import ConfigError

NEEDED = {"model_name_or_path": "me/base", "dataset": "data", "output_dir": "run"}


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ('{"enable_thinking": false}', {"enable_thinking": False}),
        ("enable_thinking=false", {"enable_thinking": False}),
        ("enable_thinking=false,effort=low, n=2", {"enable_thinking": False, "effort": "low", "n": 2}),
        ({"enable_thinking": True}, {"enable_thinking": True}),
        ("{}", None),
        (None, None),
    ],
)
def test_all_ways_to_write_them(typed: Any, read: Any) -> None:
    assert TrainConfig.build({**NEEDED, "chat_template_kwargs": typed}).chat_template_kwargs == read


@pytest.mark.parametrize("typed", ["enable_thinking", "{enable_thinking: false}", "a b=1", '{"a-b": 1}', "%}=1"])
def test_anything_else_is_refused_with_something_to_paste(typed: str) -> None:
    with pytest.raises(ConfigError) as caught:
        TrainConfig.build({**NEEDED, "chat_template_kwargs": typed})
    assert caught.value.hint == "--chat-template-kwargs enable_thinking=false"


@pytest.mark.parametrize("value", [object(), {1}, float("nan")])
def test_a_value_that_cannot_be_recorded_is_refused(value: object) -> None:
    with pytest.raises(ConfigError, match="a value that JSON cannot"):
        PrepareConfig.build({"source": "a", "output_dir": "b", "model": "c", "chat_template_kwargs": {"x": value}})


def test_they_change_what_is_learned() -> None:
    assert "chat_template_kwargs" in TrainConfig.names(Role.WEIGHTS)


def test_preparing_needs_a_model_for_them() -> None:
    with pytest.raises(ConfigError, match="needs --model"):
        PrepareConfig.build({"source": ["a"], "output_dir": "b", "chat_template_kwargs": "enable_thinking=false"})
