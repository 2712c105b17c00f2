"""Options as fields of frozen pydantic models: each is declared once, with its help, bounds and place in a command."""

from __future__ import annotations

import difflib
import functools
import itertools
import re
import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import ErrorDetails

from hubdpo import console
from hubdpo.config.spelling import Value, as_key, respell, respelled
from hubdpo.config.unknown import RENAMED, command_of, flattened, joined, near_option, unknown_options
from hubdpo.config.wrong_value import NOT_A, VARIABLE, as_one, fits, needed, quotes_hint, shown, whole_number
from hubdpo.config.yaml_file import read_yaml
from hubdpo.errors import ConfigError
from hubdpo.secrets import known_secrets

Values = dict[str, Any]
"""Option values by name, not validated yet."""


@dataclass(frozen=True)
class Cli:
    """How a field appears on the command line and in a call, beyond what its type says."""

    short: str | None = None
    argument: bool = False
    metavar: str | None = None
    needed_unless: tuple[str, ...] = ()
    """The field is needed unless one of these is given."""
    file_only: bool = False
    """The field is no option of the command line: it is given in a config file, or from Python."""
    names: tuple[str, ...] = ()
    """The kinds of folders that it may name, see `artefacts.folders.named`."""
    call_type: object = None
    """Type of the parameter in Python, if the field accepts more than its own type; a path may always be a Path."""


ADAPTERS = ("run", "adapter")
"""The kinds of folders that hold an adapter."""
MODELS = (*ADAPTERS, "merged model", "model")
"""The kinds of folders that hold an adapter or a whole model."""
NumberOrAuto = Annotated[int | Literal["auto"] | None, Cli(metavar="N|auto")]


class Unfit(ValueError):
    """Raised by a validator to give the ConfigError a hint; `Config.build` adds the option and its file."""

    def __init__(self, message: str, *, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


SURROGATE = re.compile("[\ud800-\udfff]")
"""What Python makes of the bytes of a command line that are not UTF-8."""


class Config(BaseModel):
    """Base of each command's options: frozen, and unknown names are refused with a suggestion.

    A large config inherits from models of its groups. `panel` is the heading of a group in `--help`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), defer_build=True)
    # built at the first use: `--help` shows all models and validates none

    panel: ClassVar[str | None] = None
    named_choices: ClassVar[Mapping[str, Collection[str]]] = {}
    """The words of options whose type is not a Literal."""
    several: ClassVar[tuple[str, ...]] = ()
    """Options that may have several values where one is meant. The command line then hands on all options as lists."""
    in_yaml: ClassVar[bool] = False
    """Whether the options are written in YAML, whatever holds them."""

    @classmethod
    def build(cls, options: Mapping[str, object], *, file: Path | None = None) -> Self:
        """Validate `options` over those of the flat YAML `file`. `-` and `_` are the same in names; None means unset.

        Raise ConfigError, naming the options and the file, for names that are unknown or given twice, values that are
        needed or out of bounds, a credential, or text that is not UTF-8. All unknown names, missing options and bad
        values are told at once.
        """
        values: Values = {}
        keys: dict[str, str] = {}
        origins: dict[str, str] = {}
        known = sorted(cls.model_fields)
        problems: list[ConfigError] = []
        stand_ins: Values = {}
        layers = [(cls._of_file(read_yaml(file), file, options), f" in `{file}`")] if file is not None else []
        for layer, origin in [*layers, (options, "")]:
            unknown: list[str] = []
            for key, value in layer.items():
                name = str(key).replace("-", "_")
                if name not in cls.model_fields:
                    if (now := RENAMED.get(name)) in cls.model_fields:
                        in_yaml, word = origin or cls.in_yaml, str(value)
                        written = as_key(now, word) if in_yaml else f"{flag_of(now)} {shlex.quote(word)}"
                        problems.append(ConfigError(f"option `{key}`{origin} is now `{now}`", hint=written))
                        stand_ins[now] = value
                        continue
                    if isinstance(value, dict) and (flat := flattened(name, value, known)):
                        lines = "`, `".join(itertools.starmap(as_key, flat.items()))
                        block = f"`{key}`{origin} is a block, and options have none"
                        problems.append(ConfigError(block, hint=f"write `{lines}` in its place"))
                        stand_ins |= flat
                        continue
                    unknown.append(str(key))
                    stand_ins[near_option(name, known) or ""] = value
                    continue
                if origins.get(name) == origin:
                    raise ConfigError(
                        f"`{name}`{origin} is given twice: `{keys[name]}` and `{key}`", hint="keep one of them"
                    )
                if value is None and origin and not cls._may_be_empty(name):
                    keys[name], origins[name] = str(key), origin
                    hint = cls._step(name, "", origin)
                    problems.append(ConfigError(f"{cls._called(name, origin)} has no value", hint=hint))
                if value is not None:
                    values[name], keys[name], origins[name] = value, str(key), origin
            if unknown:
                if origin and (other := command_of(layer, Config)):
                    hint = f"hubdpo {other} --config {shlex.quote(str(file))}"
                    raise ConfigError(f"`{file}` holds options of `{other}`, not of `{cls._command()}`", hint=hint)
                problems.append(unknown_options(unknown, known, cls._where_listed(), origin))
        stand_ins = {name: value for name, value in stand_ins.items() if name and name not in values}
        try:
            for name, value in values.items():
                cls._check_recordable(name, value, origins[name])
            given = {**stand_ins, **values}
            if missing := [name for name in cls.model_fields if name not in given and cls.is_needed(name, given)]:
                problems.append(cls._missing(missing, values))
                stand_ins |= {name: cls.cli(name).metavar or "VALUE" for name in missing}
            validated = cls._validated({**stand_ins, **values}, origins)
            if not problems:
                return validated
        except ValidationError as problem:
            problems += cls._invalid(problem, origins, told=stand_ins)
        except ConfigError as problem:
            # what stands in for the options that are told already may be what it is about
            problems = problems or [problem]
        error = problems[0] if len(problems) == 1 else as_one(problems)

        def as_given(name: str, value: Value) -> str | None:
            return as_key(keys.get(name, name), value) if origins.get(name) or cls.in_yaml else None

        respell(error, functools.partial(respelled, fields=cls.model_fields, form=as_given))
        raise error from None

    @classmethod
    def _validated(cls, values: Values, origins: Mapping[str, str]) -> Self:
        return cls.model_validate(values)

    @classmethod
    def _of_file(cls, values: Values, file: Path, options: Mapping[str, object]) -> Values:
        """Return the options of a config file that these `options` are given beside; a model may read other files."""
        return values

    @model_validator(mode="before")
    @classmethod
    def _plain_values(cls, values: Any) -> Any:
        """Take a path for its text, and a single value for a list of one."""
        plain = {name: _plain(value) for name, value in dict(values).items()}
        for name in plain.keys() & {name for name, field in cls.model_fields.items() if item_type(field.annotation)}:
            if isinstance(plain[name], (set, frozenset)):
                raise Unfit(f"`{name}` is a set, which has no order", hint=f"give `{name}` as a list")
            if type(plain[name]) in (str, int, float):
                plain[name] = [plain[name]]
        named = [name for name in cls.model_fields if cls.cli(name).needed_unless and not plain.get(name)]
        if missing := [name for name in named if cls.is_needed(name, plain)]:
            raise cls._missing(missing, plain)
        return plain

    @classmethod
    def is_needed(cls, name: str, given: Values) -> bool:
        """Return whether a field must have a value, with these options given."""
        others = cls.cli(name).needed_unless
        return not any(map(given.get, others)) if others else cls.model_fields[name].is_required()

    def changed(self, *names: str) -> list[str]:
        """Return those of the options whose value is not their default."""
        return [name for name in names if getattr(self, name) != type(self).model_fields[name].default]

    @classmethod
    def cli(cls, name: str) -> Cli:
        """Return the command-line facts of a field."""
        return next((item for item in cls.model_fields[name].metadata if isinstance(item, Cli)), Cli())

    @classmethod
    def _may_be_empty(cls, name: str) -> bool:
        """Return whether a file may name an option without a value: it has none by default, or is needed anyway."""
        return type(None) in get_args(cls.model_fields[name].annotation) or cls.is_needed(name, {})

    @classmethod
    def choices_of(cls, name: str) -> tuple[str, ...]:
        """Return the words that a field accepts, in order, also where it accepts a number as well."""
        annotation = cls.model_fields[name].annotation
        literals = [kind for kind in (annotation, *get_args(annotation)) if get_origin(kind) is Literal]
        return tuple(cls.named_choices.get(name, ())) or tuple(word for kind in literals for word in get_args(kind))

    @classmethod
    def is_switch(cls, name: str) -> bool:
        annotation = cls.model_fields[name].annotation
        return bool in (annotation, *get_args(annotation))

    @classmethod
    def panel_of(cls, name: str) -> str | None:
        """Return the heading under which `--help` shows a field: the panel of the group that declares it."""
        return next(base.panel for base in cls.__mro__ if issubclass(base, Config) and name in base.__annotations__)

    @classmethod
    def _check_recordable(cls, name: str, value: object, origin: str) -> None:
        """Raise ConfigError for a value that must not or cannot be written to a manifest."""
        # an argument, such as a source, is checked where it is opened
        if isinstance(value, str) and not cls.cli(name).argument and SURROGATE.search(value):
            raise ConfigError(
                f"{cls._called(name, origin)} is not UTF-8, and options are recorded", hint="use a name in UTF-8"
            )
        if origin and isinstance(value, str) and (variable := VARIABLE.search(value)):
            raise ConfigError(
                f"{cls._called(name, origin)} has `{variable[0]}`, and variables are not replaced in a file",
                hint=f"write its value, or remove the line and give `{flag_of(name)}` on the command line",
            )
        annotation = cls.model_fields[name].annotation
        kinds = {annotation, *get_args(annotation)}
        if isinstance(value, bool) and kinds & {int, float} and bool not in kinds:  # pydantic takes True for 1
            raise ConfigError(
                f"{cls._called(name, origin)} is not valid: {value} is not a number",
                hint=cls._step(name, value, origin),
            )
        if secrets := known_secrets(str(value)):
            raise ConfigError(
                f"{cls._called(name, origin)} holds a {secrets[0].kind}, and options are recorded",
                hint="pass credentials through the environment or `hf auth login` only, and revoke this one",
            )

    @classmethod
    def _invalid(
        cls, problem: ValidationError, origins: Mapping[str, str], told: Collection[str] = ()
    ) -> list[ConfigError]:
        """Return the first error of each field of a validation as one line, without the fields that are `told`."""
        firsts = {str(error["loc"][0]) if error["loc"] else "": error for error in reversed(problem.errors())}
        return [cls._one_invalid(firsts[name], origins) for name in reversed(firsts) if name not in told]

    @classmethod
    def _one_invalid(cls, error: ErrorDetails, origins: Mapping[str, str]) -> ConfigError:
        hint = getattr(error.get("ctx", {}).get("error"), "hint", None)
        message = str(error["msg"]).removeprefix("Value error, ").replace("Input should be", "it must be")
        if not error["loc"]:
            return ConfigError(message, hint=hint or cls._where_listed())
        name, given = str(error["loc"][0]), error["input"]
        if (cls.in_yaml or origins.get(name)) and not hint and error["type"] in ("string_type", "list_type"):
            hint = quotes_hint("" if len(error["loc"]) > 1 else f"{name}: ", given)
        if isinstance(given, list) and given and all(isinstance(row, dict) for row in given):
            hint = hint or "rows go to `hubdpo.prepare` first; give the folder that it wrote"
        kind = NOT_A.get(error["type"])
        if error["type"] == "literal_error":
            kind = f"one of {', '.join(map(str, cls.choices_of(name)))}"
        why = f"{shown(given)} is not {kind}" if kind else f"{message}: {shown(given)}"
        return ConfigError(
            f"{cls._called(name, origins.get(name, ''))} is not valid: {why}",
            hint=hint or cls._step(name, given, origins.get(name, "")),
        )

    @classmethod
    def _called(cls, name: str, origin: str) -> str:
        """Return how an option is named in a message: what was typed as an argument has no flag."""
        cli = cls.cli(name)
        if cli.argument and console.output.as_typed and not origin:
            return f"`{cli.metavar}`"
        return f"option `{flag_of(name)}`{origin}"

    @classmethod
    def _step(cls, name: str, given: object, origin: str) -> str:
        """Return what to give for an option: the choice that is likely meant, its default, or a value of its form."""
        field, cli, flag = cls.model_fields[name], cls.cli(name), flag_of(name)
        if get_origin(field.annotation) is Literal:
            choices = get_args(field.annotation)
            near = difflib.get_close_matches(str(given), choices, n=1)
            return f"{flag} {(near or [field.default if field.default in choices else choices[0]])[0]}"
        if cls.is_switch(name):
            return f"`{flag}` or `--no-{flag[2:]}`"
        if field.is_required():
            form = (cli.metavar or "VALUE").partition("|")[0]
            return form if cli.argument and console.output.as_typed and not origin else f"{flag} {form}"
        if field.annotation is int and (whole := whole_number(given)) is not None and fits(whole, field):
            return f"{flag} {whole}"
        if isinstance(field.default, (int, float, str)):
            return f"`{flag} {field.default}` is the default"
        return f"leave `{flag}` out"

    @classmethod
    def _missing(cls, names: Sequence[str], given: Values) -> ConfigError:
        form = {name: (cls.cli(name).metavar or "VALUE").partition("|")[0] for name in cls.model_fields}
        flags = [f"{flag_of(name)} {form[name]}" for name in names if not cls.cli(name).argument]
        called = [f"`{cls.cli(name).metavar if cls.cli(name).argument else flag_of(name)}`" for name in names]
        if len(flags) == len(names):
            one = f"option {called[0]} is needed"
            message = one if len(called) == 1 else f"options {joined(called)} are needed"
            return ConfigError(message, hint=f"add `{' '.join(flags)}`")
        words = []
        for field in (name for name in form if cls.cli(name).argument):
            values = given.get(field, form[field])
            words += [shlex.quote(str(value)) for value in (values if isinstance(values, list) else [values])]
        one = needed(called[0], cls.model_fields[names[0]].description or "")
        message = one if len(names) == 1 else f"{joined(called)} are needed"
        return ConfigError(message, hint=" ".join(["hubdpo", cls._command(), *words, *flags]))

    @classmethod
    def _where_listed(cls) -> str:
        return f"see `hubdpo {cls._command()} --help`"

    @classmethod
    def _command(cls) -> str:
        return cls.__name__.removesuffix("Config").lower()


def _plain(value: object) -> object:
    """Return a path, alone or in a list, as its text, and a tuple as a list."""
    if isinstance(value, (list, tuple)):
        return [str(item) if isinstance(item, Path) else item for item in value]
    return str(value) if isinstance(value, Path) else value


def item_type(annotation: Any) -> Any:
    """Return the type of the items of a list, which may also be None; None for any other type."""
    return next((get_args(kind)[0] for kind in (annotation, *get_args(annotation)) if get_origin(kind) is list), None)


def flag_of(name: str) -> str:
    """Return the flag of an option: `--max-length` for `max_length`."""
    return "--" + name.replace("_", "-")
