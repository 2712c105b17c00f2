"""What is wrong with a command line that Typer refuses, and the line as it was probably meant."""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import typer
import yaml

from hubdpo.cli.several import NEGATIVE
from hubdpo.config import TrainConfig
from hubdpo.config.base import Unfit, flag_of
from hubdpo.config.flags import flags
from hubdpo.config.trainers.table import options_of
from hubdpo.config.trainers.trl import TRL
from hubdpo.config.unknown import ALIASES, near_option
from hubdpo.errors import ConfigError

UsageError: Any = typer.BadParameter.__base__
"""What Typer raises for any line that it refuses."""
OTHER_NAMES = {
    "convert": "prepare", "process": "prepare", "dpo": "train", "finetune": "train", "fine-tune": "train",
    "fit": "train", "grid": "sweep", "import": "adopt", "eval": "evaluate", "test": "evaluate", "upload": "push",
    "publish": "push", "release": "push", "check": "verify", "list": "versions", "compare": "diff", "show": "view",
    "info": "inspect", "chat": "load", "generate": "load", "serve": "serve-hub", "hub": "serve-hub", "env": "doctor",
}  # fmt: skip
"""Names of commands elsewhere, for the suggestion after an unknown command."""
TRUTHS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
NAMED_INPUTS = {"--dataset", "--model-name-or-path"}
"""Options for which people give a bare word, where the other one is given."""
_VERSION = re.compile(r"v?(\d+\.\d+\.\d+\S*)")
_OPTIONAL = re.compile(r"\[.*?\]|\.\.\.$")


def explained(refusal: Any, words: Sequence[str], commands: Mapping[str, Any]) -> ConfigError:
    """Return the error for the words of a command line that Typer refused, after `hubdpo`.

    Its hint is the same line put right where that can be told, and the command's help otherwise.
    """
    name = next(iter(words), "")
    if name not in commands:
        return _unknown_command(name, words[1:], commands)
    line = Line(commands[name])
    line.read(words[1:])
    if not line.faults and isinstance(refusal, typer.BadParameter):
        line.refuse_value(refusal)
    if not line.faults:
        line.faults.append(refusal.format_message().rstrip("."))
        line.is_right = False
    hint = shlex.join(["hubdpo", name, *line.words]) if line.is_right else f"hubdpo {name} --help"
    return ConfigError("; ".join(line.faults), hint=hint)


def _unknown_command(name: str, rest: Sequence[str], commands: Mapping[str, Any]) -> ConfigError:
    what = "option" if name.startswith("-") else "command"
    known = ["--version", "--help"] if what == "option" else [*commands]
    near = OTHER_NAMES.get(name) or next(iter(difflib.get_close_matches(name, known, n=1)), None)
    hint = shlex.join(["hubdpo", near, *rest]) if near else "hubdpo --help"
    return ConfigError(f"unknown {what}: `{name}`", hint=hint)


@dataclass
class Line:
    """The words of a command after its name: what is wrong with them, and how they were probably meant."""

    command: Any
    words: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What is said of options of TRL."""
    is_right: bool = True
    """Whether `words` is a line that the command takes, as far as can be told."""

    def __post_init__(self) -> None:
        self.options = {
            name: parameter for parameter in self.command.params if parameter.param_type_name == "option"
            for name in (*parameter.opts, *parameter.secondary_opts)
        }  # fmt: skip
        self.options |= {"--help": None, "-h": None}
        self.arguments = [p for p in self.command.params if p.param_type_name == "argument"]
        self.names = {name.lstrip("-").replace("-", "_"): name for name in self.options if name.startswith("--")}
        self.positional: list[int] = []
        self.named: dict[str, str] = {}
        """Arguments that were given as options."""

    def read(self, words: Sequence[str]) -> None:
        """Read the words from left to right as Typer does, noting and mending what it refuses."""
        unknown: list[str] = []
        left = [*words]
        while left:
            word = left.pop(0)
            name, equals, value = word.partition("=")
            if word == "--":
                self.words.append(word)
                self._take(*left)
                break
            if not word.startswith("-") or word == "-" or NEGATIVE.match(word):
                self._take(word)
            elif name in self.options or self._is_short(word):
                self._read_option(self.options.get(name), name, equals, value, left)
            else:
                unknown.append(name)
                self._mend_unknown(name, equals + value, left)
        if unknown:
            names = [f"`{name}`" for name in unknown]
            self.faults[:0] = [f"unknown option{'s' * (len(names) > 1)}: {', '.join(names)}", *self.notes]
        if self.named:
            self._take_named()
        self._check_number_of_arguments()

    def _take_named(self) -> None:
        """Put the arguments before all options, each in its place."""
        words = [self.words[place] for place in self.positional]
        options = [word for place, word in enumerate(self.words) if place not in self.positional]
        self.words, self.positional = [], []
        for parameter in self.arguments:
            self._take(
                *([self.named[parameter.name]] if parameter.name in self.named else [words.pop(0)] if words else [])
            )
        self._take(*words)
        self.words += options

    def _take(self, *words: str) -> None:
        self.positional += range(len(self.words), len(self.words) + len(words))
        self.words += words

    def _is_short(self, word: str) -> bool:
        """Return whether a word is short options that are written together, or with their value: `-odata`."""
        key = word[1:].replace("-", "_")
        is_long = len(key) > 2 and any(name.startswith(key) for name in self.names)
        return not word.startswith("--") and word[:2] in self.options and not is_long

    def _read_option(self, parameter: Any, name: str, equals: str, value: str, left: list[str]) -> None:
        self.words.append(name + equals + value)
        if parameter is None or (not name.startswith("--") and name not in self.options):
            return
        if getattr(parameter, "is_flag", False):
            given = value if equals else left[0] if left and left[0].lower() in TRUTHS else None
            if given is None:
                return
            self.faults.append(f"`{name}` takes no value")
            if not equals:
                left.pop(0)
            is_on = TRUTHS.get(given.lower(), True) is (name in parameter.opts)
            names = parameter.opts if is_on else parameter.secondary_opts
            self.words[-1:] = [max(names, key=len)] if names else []
        elif not equals:
            if left:
                self.words.append(left.pop(0))
            else:
                self.faults.append(f"`{name}` needs a value")
                self.words.append(_placeholder(parameter))

    def _mend_unknown(self, name: str, value: str, left: list[str]) -> None:
        key = name.lstrip("-").replace("-", "_")
        if self.command.name == "train" and key not in ALIASES and TRL.knows(key):
            self._translate(key, value[1:] or (left.pop(0) if left and not left[0].startswith("-") else "true"))
            return
        arguments = {parameter.name: parameter for parameter in self.arguments}
        near = near_option(key, [*self.names, *arguments])
        if near is None:
            self.is_right = False
        elif near in arguments:
            self.named[near] = value[1:] or (left.pop(0) if left else _placeholder(arguments[near]))
        else:
            left.insert(0, self.names[near] + value)

    def _translate(self, key: str, value: str) -> None:
        """Write an option of TRL as that of hubdpo; one without an effect here goes, and one that differs is named."""
        try:
            found = options_of(key, yaml.safe_load(value), {}, TrainConfig.model_fields, TRL)
        except (Unfit, yaml.YAMLError) as problem:
            self.is_right = False
            self.notes.append(f"`{flag_of(key)}` of TRL: {problem}")
            return
        written = shlex.split(" ".join(flags(found, TrainConfig)))
        if not written:
            what = "is the default" if found else "has no effect"
            self.notes.append(f"`{flag_of(key)}` of TRL {what} here")
        self.words += written

    def _check_number_of_arguments(self) -> None:
        numbers = [parameter.nargs for parameter in self.arguments]
        most = len(self.positional) if -1 in numbers else sum(numbers)
        extra = [self.words[place] for place in self.positional[most:]]
        if extra and self.is_right:
            self.faults.append(f"unexpected argument{'s' * (len(extra) > 1)}: {', '.join(f'`{w}`' for w in extra)}")
            self._mend_extra(extra)
        for parameter in self.arguments[len(self.positional) :]:
            if parameter.required:
                called = (parameter.metavar or parameter.name).strip("{}")
                help_text = getattr(parameter, "help", None) or ""
                self.faults.append(f"`{called}` is needed: {_lowered(help_text)}".removesuffix(": "))
                self._take(_placeholder(parameter))

    def _mend_extra(self, extra: list[str]) -> None:
        places = self.positional[len(self.positional) - len(extra) :]
        version = _VERSION.fullmatch(extra[0])
        last = self.arguments[-1] if self.arguments else None
        if version and "--version" in self.options and len(extra) == 1:
            self.words[places[0] : places[0] + 1] = ["--version", version[1]]
        elif last is not None and last.metavar and "PROMPT" in last.metavar:
            first = places[0] - 1
            self.words[first : places[-1] + 1] = [" ".join(self.words[first : places[-1] + 1])]
        else:
            lacking = sorted(name for name in NAMED_INPUTS & self.options.keys() if name not in self.words)
            if not self.arguments and not NAMED_INPUTS & self.options.keys():
                self.words = [word for place, word in enumerate(self.words) if place not in places]
                return
            self.is_right = len(lacking) == len(extra) == 1
            self.words[places[0] : places[0]] = lacking if self.is_right else []

    def refuse_value(self, refusal: Any) -> None:
        """Note a value that an option does not take, and put the option's default in its place."""
        parameter, message = refusal.param, refusal.message.removeprefix("Value error, ").rstrip(".")
        names = [name for name in (*parameter.opts, *parameter.secondary_opts) if name in self.options]
        places = [place for place, word in enumerate(self.words) if word.partition("=")[0] in names]
        if not places:
            return
        name, equals, value = self.words[places[0]].partition("=")
        value = value if equals else self.words[places[0] + 1]
        kind = "a whole number" if "integer" in message else "a number" if re.search("number|float", message) else None
        self.faults.append(f"option `{name}` is not valid: {f'{value!r} is not {kind}' if kind else message}")
        default = _placeholder(parameter) if parameter.default is None else str(parameter.default)
        self.words[places[0] : places[0] + (1 if equals else 2)] = [name, default]


def _placeholder(parameter: Any) -> str:
    """Return what stands for a value in a line: `USER/NAME`, `DIR`, or the first of an option's choices."""
    return _OPTIONAL.sub("", (parameter.metavar or "VALUE").strip("{}")).partition("|")[0]


def _lowered(text: str) -> str:
    return f"{text[:1].lower()}{text[1:]}".rstrip(".")
