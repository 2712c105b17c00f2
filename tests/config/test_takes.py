"""The functions of the stages take a config, or its options with names, types and defaults."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import hubdpo
from hubdpo.config import Config, EvaluateConfig, MergeConfig, PrepareConfig, PushConfig, TrainConfig
from hubdpo.config.takes import takes
from hubdpo.errors import ConfigError


@takes(PushConfig, "folder", "repo")
def publish(config: PushConfig) -> PushConfig:
    """Publish."""
    return config


WANTED = {"folder": "data", "repo": "me/data", "version": "1.0.0"}


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        ((PushConfig.build(WANTED),), {}),
        ((), {"config": PushConfig.build(WANTED)}),
        ((), WANTED),
        (("data",), {"repo": "me/data", "version": "1.0.0"}),
        ((Path("data"), "me/data"), {"version": "v1.0.0", "private": None}),
    ],
    ids=["config", "config by name", "names", "one by position", "all by position"],
)
def test_a_config_and_its_options_are_the_same(arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
    assert publish(*arguments, **options) == PushConfig.build(WANTED)


@pytest.mark.usefixtures("from_python")
@pytest.mark.parametrize(
    ("arguments", "options", "message", "hint"),
    [
        (("data", "me/data"), {"vresion": "1.0.0"}, "unknown option: `vresion`", "did you mean `version`?"),
        (("data", "me/data"), {}, "option `version=` is needed", 'add `version="X.Y.Z"`'),
        (("data",), {"rpo": "me/x"}, "unknown option: `rpo`", "did you mean `repo`?"),
        (
            (),
            {"foldr": "data", "zzz": 1},
            "unknown options: `foldr` and `zzz`; `repo` is needed: repo to publish to",
            "rename `foldr` to `folder`; help(hubdpo.publish); hubdpo.publish(folder, repo, ...)",
        ),
        (("data",), {"version": "1.0.0"}, "`repo` is needed: repo to publish to", "hubdpo.publish(folder, repo, ...)"),
        (("data",), WANTED, "`publish` got `folder` twice", "give it by position or by name, not both"),
        (
            ("data", "me/data", "1.0.0"),
            {},
            "`publish` takes 2 positional arguments, folder, repo; 3 were given",
            "give the other options by name",
        ),
        (
            (),
            {"config": PushConfig.build(WANTED), "private": True},
            "`publish` takes a PushConfig or options, not both: private",
            "config.model_copy(update={...})",
        ),
    ],
)
def test_a_mistake_is_one_line(arguments: tuple[Any, ...], options: dict[str, Any], message: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        publish(*arguments, **options)
    assert (caught.value.message, caught.value.hint) == (message, hint)


def test_options_may_become_arguments_of_the_function() -> None:
    def resolve(options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        return {**options, "source": "memory"}, {"rows": options["source"]}

    @takes(PrepareConfig, "source", "output_dir", resolve=resolve)
    def convert(config: PrepareConfig, rows: object = None) -> tuple[list[str], object]:
        """Convert."""
        return config.source, rows

    assert convert([{"prompt": "p"}], "data") == (["memory"], [{"prompt": "p"}])
    assert convert(PrepareConfig.build({"source": "file", "output_dir": "data"})) == (["file"], None)


STAGES: dict[str, tuple[type[Config], list[str]]] = {
    "prepare": (PrepareConfig, ["source", "output_dir"]),
    "train": (TrainConfig, ["model_name_or_path", "dataset", "output_dir"]),
    "evaluate": (EvaluateConfig, ["model"]),
    "merge": (MergeConfig, ["adapter", "output_dir"]),
    "push": (PushConfig, ["folder", "repo"]),
}


@pytest.mark.parametrize("name", STAGES)
def test_the_signature_and_the_help_of_a_stage_have_every_option(name: str) -> None:
    model, positional = STAGES[name]
    function: Callable[..., Any] = getattr(hubdpo, name)
    parameters = inspect.signature(function).parameters
    assert set(parameters) == set(model.model_fields)
    assert [p.name for p in parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD] == positional
    for field, parameter in parameters.items():
        info = model.model_fields[field]
        default = parameter.empty if info.is_required() else info.get_default(call_default_factory=True)
        if (name, field) == ("train", "model_name_or_path"):  # None with an adapter, as needed ones come after it
            default = parameter.empty
        assert parameter.default == default
        assert f"{field}: {info.description}" in (inspect.getdoc(function) or "")


@pytest.mark.parametrize(
    ("call", "message", "hint"),
    [
        (lambda: hubdpo.load_adapter("run", devicemap=0), "unknown option: `devicemap`", "did you mean `device_map`?"),
        (
            lambda: hubdpo.load_preferences("data", split="train"),
            "unknown option: `split`",
            "the options are: ref, revision",
        ),
        (lambda: hubdpo.verify(), "`verify`: missing a required argument: 'ref'", "hubdpo.verify(ref, check=...)"),
        (lambda: hubdpo.diff(*"abc"), "`diff`: too many positional arguments", "hubdpo.diff(before, after)"),
    ],
)
def test_a_mistake_in_a_call_without_a_config_is_one_line(call: Callable[[], Any], message: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        call()
    assert (caught.value.message, caught.value.hint) == (message, hint)


def test_paths_are_taken_where_a_folder_or_a_hub_id_is() -> None:
    config = TrainConfig.build({"model_name_or_path": Path("base"), "dataset": Path("data"), "output_dir": "run"})
    assert (config.model_name_or_path, config.dataset, config.output_dir) == ("base", "data", Path("run"))


@pytest.mark.usefixtures("from_python")
def test_an_uncaught_error_shows_its_hint_as_the_call_spells_it() -> None:
    with pytest.raises(ConfigError) as caught:
        hubdpo.push("data", "me/data", version="1.0")
    assert caught.value.hint
    assert traceback.format_exception_only(caught.value)[1:] == [f"hint: {caught.value.hint}\n"]
