"""The command line that the user typed, with what a hint says done to it, so that it can be pasted."""

from __future__ import annotations

import os
import re
import shlex
import sys
from pathlib import Path

from hubdpo.artefacts.folders.named import EXAMPLE_BASE, another, beside, free, raw_here
from hubdpo.config import Config
from hubdpo.config.base import flag_of, item_type
from hubdpo.errors import HubdpoError, Instead

OUTPUTS = ("--output-dir", "--output", "-o")
"""Options whose value is written, not read."""
OUTPUT_NAMES = {"prepare": "data", "export": "model.gguf", "merge": "merged", "sweep": "sweep"}
"""What each command's output is called where the user has not said; `run` is that of the others."""
PLACEHOLDER = re.compile(r"(?<=[ =])(SOURCE|DATASET|RUN|USER/NAME)(?=[ @.]|$)")
COMMANDS = ("export ", "unset ", "ulimit ", "hubdpo ", "pip ", "git ")
_CLAUSE = re.compile(
    r"(?P<command>(?:git|pip|hubdpo) [^`;]*), then `(?P<then>--[^`]*)`"
    r"|(?:add |did you mean |use )?`(?P<given>--[^`]*)`\??(?: is the default)?"
    r"|leave (?:out )?`?(?P<out>--[a-z0-9-]+)`?(?: out)?"
    r"|(?:give|use) another `(?P<another>--[a-z-]+)`"
    r"|give `(?P<word>[^`]+)` as `(?P<as>--[a-z-]+)`"
)
_AGAIN = re.compile(r"(?:(?P<step>.*?),? (?:then:? )?)?run the same command again")
_NEEDED = re.compile(r"--(?!help)[a-z-]+|SOURCE(?:\.\.\.)?|DATASET|RUN|USER/NAME|X\.Y\.Z|DIR|FILE|BASE")
_VALUE = re.compile(r"[\d.e+-]+|[a-z_0-9]+")
_FLAG = re.compile(r"--[a-z][a-z0-9-]*")


def spell(argument: str) -> str:
    """Write `--max_steps=3` as `--max-steps=3`, leaving values and `--` alone."""
    if not argument.startswith("--") or argument == "--":
        return argument
    flag, equals, value = argument.partition("=")
    return flag.replace("_", "-") + equals + value


def put_right(problem: HubdpoError, command: str | None, model: type[Config] | None) -> tuple[str, list[str]]:
    """Return the message of an error, and its hints as the line that was typed for `command`, put right.

    A hint may name options to give or to leave out, another word for one that was typed, or the same line; what else it
    says goes into the message. Any other hint stays, as do all where another program runs hubdpo: its command line
    would lack that program.
    """
    words = [spell(word) for word in sys.argv[1:]]
    message, hint = problem.message, problem.hint
    if hint is None or words[:1] != [command] or "RANK" in os.environ:
        return message, [hint] if hint else []
    if problem.instead is not None:
        return message, [_with_word(problem.instead, words)]
    if match := _AGAIN.fullmatch(hint):
        again, step = shlex.join(["hubdpo", *words]), match["step"]
        if step and step.startswith(COMMANDS):
            return message, [f"{step} && {again}"]
        if step and step.startswith("ls "):  # shows what to change first
            return message, [step]
        if not step or model is None or not Line(words, model).change(step):
            return f"{message}; {step}" if step else message, [again]
        hint = step
    if model is not None:
        ways = [way.split("; ") for way in hint.split(", or ")]
        lines = [Line(words, model) for _ in ways]
        if all(
            line.change(clause) or (len(ways) > 1 and line.replace(clause))
            for line, way in zip(lines, ways, strict=True)
            for clause in way
        ):
            return message, [line.text for line in lines]
    return message, [_with_arguments(hint, words)]


def _with_word(hint: Instead, words: list[str]) -> str:
    """Return the line with the word that was meant, after the command that makes what it names."""
    if hint.after is not None and PLACEHOLDER.search(hint.after):
        return hint.after
    parts = hint.typed.split(" ")  # of a name with spaces, which the shell took apart
    for place in range(len(words) if len(parts) > 1 else 0):
        if words[place : place + len(parts)] == parts:
            return shlex.join(["hubdpo", *words[:place], hint.word, *words[place + len(parts) :]])
    instead = "USER/NAME" if hint.after is None and hint.word in words else hint.word  # a thing is not its own other
    for place, word in enumerate(words):
        name, equals, value = word.rpartition("=") if word != hint.typed else ("", "", word)
        is_written = words[place - 1] in OUTPUTS or name in OUTPUTS
        bare = value.removeprefix("hf://").removeprefix("datasets/")  # a repo in an error has no type before it
        if value and not is_written and hint.typed in (value, bare, os.path.normpath(value)):
            words[place] = name + equals + value.removesuffix(hint.typed) * (bare == hint.typed) + instead
            break
    else:
        if hint.after is None:  # no word of the line: of a file of options, or of what a folder says
            return str(hint)
    line = shlex.join(["hubdpo", *words])
    return line if hint.after is None else f"{hint.after} && {line}"


def _with_arguments(hint: str, words: list[str]) -> str:
    """Return a hint that is the command with its arguments alone as the whole line, in their order."""
    given = shlex.split(hint) if hint.startswith(f"hubdpo {words[0]} ") and "`" not in hint else []
    missing = [word for word in given[2:] if word not in words]
    if not given or not all(_NEEDED.fullmatch(word) for word in missing):
        return hint
    named = [word for word in given[2:] if word in words]
    for place, word in zip(sorted(map(words.index, named)), named, strict=True):
        words[place] = word
    return shlex.join(["hubdpo", *words, *(filled(word, words[0]) for word in missing)])


def filled(value: str, command: str) -> str:
    """Return what may stand for a placeholder: what is here of its kind, a name for it, or an example."""
    if value == "SOURCE...":
        return next(iter(raw_here()), "SOURCE")
    if value in ("DATASET", "RUN"):
        return next(iter(beside(Path(), (value.lower(),))), value)
    if value in ("DIR", "FILE"):
        return free(OUTPUT_NAMES.get(command, "run"))
    return {"BASE": EXAMPLE_BASE, "X.Y.Z": "0.1.0"}.get(value, value)


class Line:
    """The words of a command line, of which options are set and left out."""

    def __init__(self, words: list[str], model: type[Config]) -> None:
        self.words, self.model = [*words], model
        self.first: str | None = None
        """A command to run before it."""

    @property
    def text(self) -> str:
        line = shlex.join(["hubdpo", *self.words])
        return line if self.first is None else f"{self.first} && {line}"

    def change(self, clause: str) -> bool:
        """Set or leave out the options that a clause of a hint names; return False if it says anything else."""
        match = _CLAUSE.fullmatch(clause)
        if match is not None and (name := match["out"] or match["another"]):
            place, values = self._take_out(name)
            if place is not None and match["another"]:
                self.words[place:place] = [name, _other_than(values[-1] if values else "", name, self.words[0])]
            return place is not None
        if match is not None and (word := match["word"]):
            if word not in self.words:
                return False
            place = self.words.index(word)
            self.words[place:place] = [match["as"]]
            return True
        self.first = match["command"] if match is not None else None
        given = self._options(shlex.split((match["given"] or match["then"]) if match is not None else _words(clause)))
        for name, several in given.items():
            place, _ = self._take_out(name)
            new = [part for value in several for part in (name, filled(value, self.words[0]))] or [name]
            self.words[place:place] = new
        return bool(given)

    def replace(self, clause: str) -> bool:
        """Take a whole line of the same command in place of this one; return False if a clause is anything else."""
        words = shlex.split(_words(clause)) if clause.startswith(f"hubdpo {self.words[0]} ") else []
        self.words = words[1:] or self.words
        return bool(words)

    def _options(self, parts: list[str]) -> dict[str, list[str]]:
        """Return the values of each option; none when anything is no option of the command."""
        given: dict[str, list[str]] = {}
        while parts:
            name = parts.pop(0)
            if not _FLAG.fullmatch(name) or (field := self._field(name)) is None:
                return {}
            values = given.setdefault(name, [])
            if self.model.is_switch(field):
                continue
            if not parts:
                return {}
            values.append(parts.pop(0))
            while self._takes_several(field) and parts and _VALUE.fullmatch(parts[0]):
                values.append(parts.pop(0))
        return given

    def _take_out(self, name: str) -> tuple[int | None, list[str]]:
        """Take out an option, in all its spellings; return where it stood, or would stand, and its values."""
        if (field := self._field(name)) is None:
            return None, []
        flag, values = flag_of(field), []
        names = {flag, f"--no-{flag[2:]}", self.model.cli(field).short}
        places = [place for place, word in enumerate(self.words) if word.partition("=")[0] in names]
        for place in reversed(places):
            _, equals, value = self.words[place].partition("=")
            end = place + 1
            if not equals and not self.model.is_switch(field):
                end += 1
                while self._takes_several(field) and end < len(self.words) and not self.words[end].startswith("-"):
                    end += 1
            values += [value] if equals else self.words[place + 1 : end]
            del self.words[place:end]
        return places[0] if places else len(self.words), values

    def _field(self, name: str) -> str | None:
        fields = self.model.model_fields
        bare = name[2:].replace("-", "_")
        return next((field for field in (bare, bare.removeprefix("no_")) if field in fields), None)

    def _takes_several(self, field: str) -> bool:
        """Return whether further values may follow the first, see `several.OnceEach`."""
        if any(self.model.cli(name).argument for name in self.model.model_fields):
            return False
        return bool(self.model.several) or item_type(self.model.model_fields[field].annotation) is not None


def _other_than(given: str, option: str, command: str) -> str:
    """Return another value of an option that names what is written."""
    if Path(given).name in ("", ".."):  # a folder that has no name of its own here
        return filled("DIR", command)
    if option == "--output-dir" and Path(given).is_file():
        return free(os.path.splitext(given)[0])  # noqa: PTH122 - keeps `./`
    return another(given)


def _words(clause: str) -> str:
    return clause if clause.count("'") % 2 == 0 and clause.count('"') % 2 == 0 else ""
