"""How an option is declared, once: a frozen pydantic field with its help, bounds and place on the command line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from hubdpo.errors import ConfigError
from hubdpo.secrets import known_secrets

OTHER_WORDS = {
    "model": "model_name_or_path", "base_model": "model_name_or_path", "lr": "learning_rate",
    "epochs": "num_train_epochs", "num_epochs": "num_train_epochs", "batch_size": "per_device_train_batch_size",
    "train_file": "dataset", "dataset_name": "dataset", "data": "dataset", "cutoff_len": "max_length",
    "max_seq_length": "max_length", "lora_rank": "lora_r", "pref_beta": "beta", "pref_loss": "loss_type",
    "out": "output_dir", "save_dir": "output_dir", "repo_id": "repo", "hub_model_id": "repo", "tag": "version",
}  # fmt: skip
"""What other trainers call an option, or what is typed in place of it."""


@dataclass(frozen=True)
class Cli:
    """Command-line facts of a field that its type does not tell: a short flag, or that it is an argument."""

    short: str | None = None
    argument: bool = False
    metavar: str | None = None
    text: bool = False
    """The value reaches the model as it was typed, for fields that take more than one kind."""
    panel: str | None = None


class Unfit(ValueError):
    """What a validator raises, so that the option and where it stands are named, with a hint of its own."""

    def __init__(self, message: str, *, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


class Config(BaseModel):
    """Base of every command's options: frozen, unknown keys refused with a suggestion."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    @classmethod
    def build(cls, options: Mapping[str, Any], *, file: Path | None = None) -> Self:
        """Make a config from `options` over the flat YAML `file`; `-` and `_` are the same in names.

        Raise ConfigError, naming the option and where it stands, for an unknown key, a value out of bounds, a
        credential or text that is not UTF-8.
        """
        merged: dict[str, Any] = {}
        origin: dict[str, str] = {}
        layers = [(read_yaml(file), f" in `{file}`")] if file is not None else []
        for values, where in [*layers, (options, "")]:
            for key, value in values.items():
                name = str(key).replace("-", "_")
                if name not in cls.model_fields:
                    raise ConfigError(f"unknown option{where}: `{key}`", hint=cls._suggest(name))
                if value is not None:
                    merged[name], origin[name] = value, where
        for name, value in merged.items():
            # what an argument names, such as a source, is refused where it is found
            if isinstance(value, str) and not cls._is_argument(name) and not _is_utf8(value):
                raise ConfigError(
                    f"option `--{name.replace('_', '-')}`{origin[name]} is not UTF-8, and options are recorded",
                    hint="give it a name in UTF-8",
                )
            if found := known_secrets(str(value)):
                raise ConfigError(
                    f"option `--{name.replace('_', '-')}`{origin[name]} holds a {found[0].kind}; options are recorded",
                    hint="credentials come from the environment or `hf auth login` alone; revoke this one",
                )
        try:
            return cls.model_validate(merged)
        except ValidationError as problem:
            first = problem.errors()[0]
            hint = getattr(first.get("ctx", {}).get("error"), "hint", None)
            if not first["loc"]:
                message = str(first["msg"]).removeprefix("Value error, ")
                raise ConfigError(message, hint=hint or "see `--help`") from None
            name = str(first["loc"][0])
            flag = "--" + name.replace("_", "-")
            if first["type"] == "missing":
                raise cls._missing(name) from None
            message = str(first["msg"]).removeprefix("Value error, ")
            raise ConfigError(
                f"option `{flag}`{origin.get(name, '')} is not valid: {message}: {first['input']!r}",
                hint=hint or (cls.model_fields[name].description if name in cls.model_fields else None),
            ) from None

    @classmethod
    def given(cls, config: Self | None, options: Mapping[str, Any]) -> Self:
        """Let a stage be called with a ready config or with the options themselves."""
        return config if config is not None else cls.build(options)

    @classmethod
    def near_field(cls, name: str) -> str | None:
        """Return the option that an unknown name most likely means: another word for it, or nearly the same letters."""
        if (known := OTHER_WORDS.get(name)) in cls.model_fields:
            return known
        return next(iter(difflib.get_close_matches(name, cls.model_fields, n=1)), None)

    @classmethod
    def _is_argument(cls, name: str) -> bool:
        return any(isinstance(item, Cli) and item.argument for item in cls.model_fields[name].metadata)

    @classmethod
    def _missing(cls, name: str) -> ConfigError:
        """Return the error for an option, or an argument, that is needed and was not given."""
        arguments = {
            field: cli.metavar or field.upper()
            for field, info in cls.model_fields.items()
            for cli in info.metadata
            if isinstance(cli, Cli) and cli.argument
        }
        if name not in arguments:
            flag = "--" + name.replace("_", "-")
            return ConfigError(f"option `{flag}` is needed", hint=f"add `{flag} VALUE`")
        command = cls.__name__.removesuffix("Config").lower()
        return ConfigError(
            f"`{arguments[name]}` is needed: {cls.model_fields[name].description}".rstrip("."),
            hint=f"hubdpo {command} {' '.join(arguments.values())}",
        )

    @classmethod
    def _suggest(cls, name: str) -> str:
        if near := cls.near_field(name):
            return f"did you mean `{near}`?"
        return f"the options are: {', '.join(sorted(cls.model_fields))}"


def _is_utf8(text: str) -> bool:
    """Tell whether a text can be written down: bytes of a command line that are no UTF-8 reach Python as surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_choice(name: str, value: str, known: Iterable[str]) -> None:
    """Raise Unfit, with the nearest of the `known` values ready to paste, when `value` is none of them."""
    choices = list(known)
    if value in choices:
        return
    near = difflib.get_close_matches(value, choices, n=1)
    flag = "--" + name.replace("_", "-")
    raise Unfit(
        f"there is no `{value}`",
        hint=f"did you mean `{flag} {near[0]}`?" if near else f"it is one of: {', '.join(choices)}",
    )


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a flat mapping. Raise ConfigError when the file is missing, is not YAML or nests."""
    try:
        loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"config file not found: {path}", hint="check the path after `--config`") from None
    except (yaml.YAMLError, ValueError, IsADirectoryError, LookupError, AttributeError, TypeError) as problem:
        # a date, or bytes, that are none: ValueError; a tag on a wrong value (`!!bool x`): one of the last three
        raise ConfigError(
            f"config file cannot be read: {path}: {' '.join(str(problem).split())}",
            hint="write `beta: 0.1`, one option a line",
        ) from None
    if loaded is None:
        return {}
    if not isinstance(loaded, dict):
        raise ConfigError(
            f"config file must map option names to values: {path}", hint="write `beta: 0.1`, one option a line"
        )
    return loaded
