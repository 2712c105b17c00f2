"""What is wrong with a command line that Typer refuses, and the line as it was probably meant."""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
import yaml

from hubdpo.artefacts.folders.named import RAW_NAME, is_file, unused, what_is
from hubdpo.cli.several import NEGATIVE, counted_as, takes_several, with_names
from hubdpo.config import TrainConfig
from hubdpo.config.base import Config, Unfit, flag_of
from hubdpo.config.flags import flags
from hubdpo.config.sweep import SWEPT
from hubdpo.config.trainers.table import Differs, options_of
from hubdpo.config.trainers.trl import TRL
from hubdpo.config.unknown import ALIASES, command_of, joined, near_option
from hubdpo.config.wrong_value import needed
from hubdpo.config.yaml_file import read_yaml
from hubdpo.errors import ConfigError

OTHER_NAMES = {
    "convert": "prepare", "process": "prepare", "dpo": "train", "finetune": "train", "fine-tune": "train",
    "fit": "train", "grid": "sweep", "import": "adopt", "eval": "evaluate", "test": "evaluate", "upload": "push",
    "publish": "push", "release": "push", "check": "verify", "list": "versions", "compare": "diff", "show": "view",
    "info": "inspect", "chat": "load", "generate": "load", "serve": "serve-hub", "hub": "serve-hub", "env": "doctor",
}  # fmt: skip
"""Names of commands elsewhere, for the suggestion after an unknown command."""
TRUTHS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
NAMED_INPUTS = ("--model-name-or-path", "--dataset")
"""Options whose values people give as bare words, in this order."""
INPUTS = {
    "dataset": "--dataset", "model": "--model-name-or-path", "merged model": "--model-name-or-path",
    "run": "--adapter", "adapter": "--adapter",
}  # fmt: skip
"""Options that take what a folder is."""
CONFIG_SUFFIXES = (".yaml", ".yml")
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
    hint = shlex.join(["hubdpo", line.name, *line.words]) if line.is_right else f"hubdpo {name} --help"
    return ConfigError("; ".join(line.faults), hint=hint)


def _unknown_command(name: str, rest: Sequence[str], commands: Mapping[str, Any]) -> ConfigError:
    what = "option" if name.startswith("-") else "command"
    known = ["--version", "--help"] if what == "option" else [*commands]
    near = OTHER_NAMES.get(name) or next(iter(difflib.get_close_matches(name, known, n=1)), None)
    if is_file(name) and RAW_NAME.search(name):
        near, *rest = _command_for(name, rest)
    hint = shlex.join(["hubdpo", near, *rest]) if near else "hubdpo --help"
    return ConfigError(f"unknown {what}: `{name}`", hint=hint)


def _command_for(file: str, rest: Sequence[str]) -> list[str]:
    """Return the command line for a file that stands where a command is meant: options, or raw data."""
    if Path(file).suffix in CONFIG_SUFFIXES:
        try:
            options = read_yaml(Path(file))
        except ConfigError:  # which `train` tells
            options = {}
        near = None if options.keys() <= TrainConfig.model_fields.keys() else command_of(options, Config)
        return [near or "train", "--config", file, *rest]
    output = [] if {"-o", "--output-dir"} & {*rest} else ["-o", unused("data", Path(file))]
    return ["prepare", file, *rest, *output]


@dataclass(eq=False)
class Part:
    """An argument of a line, or an option with its value."""

    words: list[str]
    option: Any = None
    """What Typer reads it as; of an argument, the option whose value it follows."""
    is_argument: bool = False


class Line:
    """The words of a command after its name: what is wrong with them, and how they were probably meant."""

    def __init__(self, command: Any) -> None:
        self.parameters = command.params
        self.name = str(command.name)
        """The command that was meant."""
        self.parts: list[Part] = []
        self.faults: list[str] = []
        self.notes: list[str] = []
        """What is said of options of TRL."""
        self.is_right = True
        """Whether `words` is a line that the command takes, as far as can be told."""
        self.options = {
            name: parameter for parameter in self.parameters if parameter.param_type_name == "option"
            for name in (*parameter.opts, *parameter.secondary_opts)
        }  # fmt: skip
        self.options |= {"--help": None, "-h": None}
        self.arguments = [p for p in self.parameters if p.param_type_name == "argument"]
        self.names = {name.lstrip("-").replace("-", "_"): name for name in self.options if name.startswith("--")}
        self.named: dict[str, str] = {}
        """Arguments that were given as options."""
        self.once: dict[str, Part] = {}
        """The options so far that may be given once."""

    @property
    def words(self) -> list[str]:
        return [word for part in self.parts for word in part.words]

    def read(self, words: Sequence[str]) -> None:
        """Read the words from left to right as Typer does, noting and mending what it refuses."""
        unknown: list[str] = []
        left = [*with_names(words, self.parameters)]
        while left:
            word = left.pop(0)
            name, equals, value = word.partition("=")
            if word == "--":
                self.parts += [Part([word]), *(Part([each], is_argument=True) for each in left)]
                break
            if not word.startswith("-") or word == "-" or NEGATIVE.match(word):
                before = self.parts[-1] if self.parts else Part([])
                follows = before.is_argument or len(before.words) == 2
                self.parts.append(Part([word], before.option if follows else None, is_argument=True))
            elif name in self.options or self._is_short(word):
                self._read_option(word, left)
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
        given, options = self._given(), [part for part in self.parts if not part.is_argument]
        self.parts = [
            Part([self.named[parameter.name]], is_argument=True) if parameter.name in self.named else given.pop(0)
            for parameter in self.arguments
            if parameter.name in self.named or given
        ]
        self.parts += [*given, *options]

    def _given(self) -> list[Part]:
        return [part for part in self.parts if part.is_argument]

    def _is_short(self, word: str) -> bool:
        """Return whether a word is short options that are written together, or with their value: `-odata`."""
        key = word[1:].replace("-", "_")
        is_long = len(key) > 2 and any(name.startswith(key) for name in self.names)
        return not word.startswith("--") and word[:2] in self.options and not is_long

    def _read_option(self, word: str, left: list[str]) -> None:
        """Take an option and its value. Of one that may be given once, keep the last."""
        name, equals, value = word.partition("=")
        parameter: Any = self.options.get(name)
        part = Part([word], parameter or self.options.get(word[:2]))
        if getattr(parameter, "is_flag", False):
            given = value if equals else left[0] if left and left[0].lower() in TRUTHS else None
            if given is not None:
                self.faults.append(f"`{name}` takes no value")
                del left[: 0 if equals else 1]
                is_on = TRUTHS.get(given.lower(), True) is (name in parameter.opts)
                names = parameter.opts if is_on else parameter.secondary_opts
                part.words = [max(names, key=len)] if names else []
        elif parameter is not None and not equals:
            if not left:
                self.faults.append(f"`{name}` needs a value")
            part.words.append(left.pop(0) if left else _placeholder(parameter))
        self.parts.append(part)
        if part.option is None or not part.words or takes_several(part.option):
            return
        if (first := self.once.pop(counted_as(part.option), None)) is not None:
            self.faults.append(self._given_twice(part.option, first.words, part.words))
            self.parts.remove(first)
        self.once[counted_as(part.option)] = part

    def _given_twice(self, option: Any, *given: list[str]) -> str:
        typed = [words[0].partition("=")[0] for words in given]
        first, second = (self.options.get(name, option) for name in typed)
        if first is not second or (option.is_flag and (typed[0] in option.opts) is not (typed[1] in option.opts)):
            return f"`{typed[0]}` and `{typed[1]}` exclude each other"
        name = max(option.opts, key=len)
        more = "; `hubdpo sweep` trains a run for each value" if self.name == "train" and option.name in SWEPT else ""
        return f"`{name}` is given twice{'' if option.is_flag else more}"

    def _mend_unknown(self, name: str, value: str, left: list[str]) -> None:
        key = name.lstrip("-").replace("-", "_")
        if self.name in ("train", "sweep") and key not in ALIASES and TRL.knows(key):
            self._translate(key, value[1:] or (left.pop(0) if left and not left[0].startswith("-") else "true"))
            return
        arguments = {parameter.name: parameter for parameter in self.arguments}
        near = near_option(key, [*self.names, *arguments])
        if len(key) == 1 and len(starting := [each for each in self.names if each.startswith(key)]) == 1:
            near = starting[0]
        if near is None:
            if self.arguments:  # which the next word may be
                self.is_right = False
            while not self.arguments and left and (not left[0].startswith("-") or NEGATIVE.match(left[0])):
                left.pop(0)
        elif near in arguments:
            self.named[near] = value[1:] or (left.pop(0) if left else _placeholder(arguments[near]))
        else:
            left.insert(0, self.names[near] + value)

    def _translate(self, key: str, value: str) -> None:
        """Write an option of TRL as that of hubdpo; one without an effect here goes, and one that differs is named."""
        try:
            found = options_of(key, yaml.safe_load(value), {}, TrainConfig.model_fields, TRL)
        except (Unfit, yaml.YAMLError) as problem:
            why = problem.otherwise if isinstance(problem, Differs) else problem
            self.notes.append(f"`{flag_of(key)}` of TRL does not apply: {why}")
            self.parts.append(Part(shlex.split(TRL.instead.get(key, ""))))
            return
        written = shlex.split(" ".join(flags(found, TrainConfig)))
        if not written:
            what = "is the default" if found else "has no effect"
            self.notes.append(f"`{flag_of(key)}` of TRL {what} here")
        self.parts.append(Part(written))

    def _check_number_of_arguments(self) -> None:
        given = self._given()
        numbers = [parameter.nargs for parameter in self.arguments]
        most = len(given) if -1 in numbers else sum(numbers)
        extra = given[most:]
        if extra and self.is_right:
            words = ", ".join(f"`{part.words[0]}`" for part in extra)
            self.faults.append(f"unexpected argument{'s' * (len(extra) > 1)}: {words}")
            self._mend_extra(given[:most], extra)
        for parameter in self.arguments[len(given) :]:
            if parameter.required:
                called = (parameter.metavar or parameter.name).strip("{}")
                self.faults.append(needed(f"`{called}`", getattr(parameter, "help", None) or ""))
                self.parts.append(Part([_placeholder(parameter)], is_argument=True))

    def _mend_extra(self, before: list[Part], extra: list[Part]) -> None:
        version = _VERSION.fullmatch(extra[0].words[0])
        if not self.arguments and all(part.option is not None for part in extra):
            self._sweep({part.option.name for part in extra})
        elif version and "--version" in self.options and len(extra) == 1:
            extra[0].words = ["--version", version[1]]
        elif self.arguments and "PROMPT" in (self.arguments[-1].metavar or ""):
            before[-1].words = [" ".join(part.words[0] for part in (before[-1], *extra))]
            self.parts = [part for part in self.parts if part not in extra]
        elif self.arguments or not self.options.keys().isdisjoint(NAMED_INPUTS):
            self._name_inputs(extra)
        else:
            self.parts = [part for part in self.parts if part not in extra]

    def _sweep(self, options: set[str]) -> None:
        """Make a line of `train` that gives several values to some options one of `sweep`, if these may have them."""
        given = [part.option for part in self.parts if not part.is_argument and part.option is not None]
        names = [option.name for option in given if takes_several(option)]
        self.is_right = self.name == "train" and options <= {*SWEPT} and len(names) == len({*names})
        if self.is_right:
            self.name = "sweep"
            called = joined([f"`{flag_of(name)}`" for name in sorted(options)])
            self.faults.append(f"`train` takes one value of {called}, and `hubdpo sweep` trains a run for each")

    def _name_inputs(self, extra: list[Part]) -> None:
        """Put options before bare words: that of a file or folder by what it is, else those that are lacking."""
        given = {word.partition("=")[0] for word in self.words}
        found = {part: _input(part.words[0]) for part in extra}
        lacking = [name for name in NAMED_INPUTS if name in self.options and name not in {*given, *found.values()}]
        unknown = [part for part in extra if found[part] is None]
        if len(unknown) == len(lacking):
            found |= zip(unknown, lacking, strict=True)
        names = [name for name in found.values() if name in self.options and name not in given]
        self.is_right = len({*names}) == len(extra)
        if self.is_right:
            for part, name in found.items():
                part.words.insert(0, str(name))

    def refuse_value(self, refusal: Any) -> None:
        """Note a value that an option does not take, and put the option's default in its place."""
        parameter, message = refusal.param, refusal.message.removeprefix("Value error, ").rstrip(".")
        given = [part for part in self.parts if not part.is_argument and part.option is not None]
        part = next((each for each in given if each.option.name == parameter.name), None)
        if part is None:
            return
        name, equals, value = part.words[0].partition("=")
        if name not in self.options:
            return
        value = value if equals else part.words[1]
        kind = "a whole number" if "integer" in message else "a number" if re.search("number|float", message) else None
        self.faults.append(f"option `{name}` is not valid: {f'{value!r} is not {kind}' if kind else message}")
        part.words = [name, _placeholder(parameter) if parameter.default is None else str(parameter.default)]


def _input(word: str) -> str | None:
    """Return the option that takes what is there under this name."""
    path = Path(word)
    if path.suffix in CONFIG_SUFFIXES:
        return "--config"
    return "--dataset" if is_file(word) and RAW_NAME.search(word) else INPUTS.get(what_is(path) or "")


def _placeholder(parameter: Any) -> str:
    """Return what stands for a value in a line: `USER/NAME`, `DIR`, or the first of an option's choices."""
    return _OPTIONAL.sub("", (parameter.metavar or "VALUE").strip("{}")).partition("|")[0]
