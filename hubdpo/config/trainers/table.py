"""Read a config file of another trainer: take what means the same, and say in one message what does not apply.

A key is taken under the name of hubdpo's option, has no effect here and is named as such, or does not apply. A key that
would change the result is never left out in silence.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from hubdpo import console
from hubdpo.config.base import Unfit, Values
from hubdpo.config.unknown import near_option
from hubdpo.errors import ConfigError

Convert = Callable[[Any, Values], Values]
"""Turns the value of a key, beside all values of the file, into options of hubdpo; raises Unfit where none fits."""


class Differs(Unfit):
    """Raised for a value of a key that does not apply, where another does; `otherwise` says what hubdpo does."""

    def __init__(self, value: object, otherwise: str) -> None:
        super().__init__(f"it is {_word(value)}, and {otherwise}", hint="")
        self.otherwise = otherwise


@dataclass(frozen=True)
class Trainer:
    """The keys of a trainer, each in one of the tables; one that is in none has hubdpo's own meaning, or none."""

    name: str
    marks: frozenset[str]
    """Keys that only files of this trainer have."""
    renamed: Mapping[str, str]
    converted: Mapping[str, Convert]
    says: Mapping[str, tuple[Collection[Any], str]]
    """Keys with the values that say what hubdpo does anyway, and what it does about any other."""
    refused: Mapping[str, str]
    """Keys that do not apply, whatever value they have, and what to do instead."""
    free: Collection[str]
    """Keys without an effect on the result, or of parts that hubdpo does not have."""
    instead: Mapping[str, str] = field(default_factory=dict)
    """Options of hubdpo that come nearest to what a key that does not apply asks for."""
    defaults: Values = field(default_factory=dict)
    """Options of hubdpo with the value that the trainer gives them by default, where hubdpo's is another."""

    def knows(self, key: str) -> bool:
        tables = (self.marks, self.renamed, self.converted, self.says, self.refused, self.free)
        return any(key in table for table in tables)


def of_other_trainer(values: Values, options: Collection[str], trainers: Collection[Trainer]) -> Trainer | None:
    """Return the trainer that a file was written for; None for a file that has only options of hubdpo, or slips."""
    foreign = [key for key in values if key not in options]
    known = {trainer.name: sum(map(trainer.knows, foreign)) for trainer in trainers}
    marked = [trainer for trainer in trainers if trainer.marks & values.keys()]
    return max(marked, key=lambda trainer: known[trainer.name], default=None)


def translated(
    values: Values, options: Mapping[str, Any], trainer: Trainer, file: str, *, given: Collection[str] = ()
) -> Values:
    """Return the values of a file under hubdpo's names, and say what was taken, has no effect, or is not the default.

    `options` are hubdpo's, with their defaults; those `given` otherwise are not taken from the file. Raise ConfigError
    that lists every key which does not apply.
    """
    taken: Values = {}
    names, without, wrong = [], [], []
    for key, value in values.items():
        if value is None:
            continue
        try:
            found = options_of(key, value, values, options, trainer)
        except Unfit as problem:
            wrong.append(f"`{key}`: {problem} ({problem.hint})" if problem.hint else f"`{key}`: {problem}")
            continue
        if twice := [name for name in found if name in taken and taken[name] != found[name]]:
            wrong.append(f"`{key}`: another key sets `{twice[0]}` as well")
        taken |= found
        if not found:
            without.append(key)
        elif found != {key: value}:
            as_given = [name if option == value else f"{name} {_word(option)}" for name, option in found.items()]
            names.append(f"{key} as {', '.join(as_given)}")
    if wrong:
        raise ConfigError(
            f"`{file}` is a config of {trainer.name}, and {console.counted(len(wrong), 'key')} of it "
            f"{'does' if len(wrong) == 1 else 'do'} not apply: {'; '.join(wrong)}",
            hint="change or remove what does not apply; `hubdpo train --help` lists all options",
        )
    sentences = [f"taken: {', '.join(names)}"] if names else []
    sentences += [f"without effect here: {', '.join(without)}"] if without else []
    console.info(f"config    of {trainer.name}; {'; '.join(sentences)}")
    left = options.keys() - taken.keys() - set(given)
    other = {name: value for name, value in trainer.defaults.items() if name in left and options[name] != value}
    if other:
        shown = ", ".join(f"{name} {_word(options[name])} ({_word(default)})" for name, default in other.items())
        console.info(f"          what the file leaves out has hubdpo's default, not {trainer.name}'s: {shown}")
    return taken


def options_told(values: Values, options: Mapping[str, Any], trainer: Trainer) -> Values:
    """Return the values of a file under hubdpo's names, as far as they mean the same there; the others are left out."""
    told: Values = {}
    for key, value in values.items():
        try:
            told |= options_of(key, value, values, options, trainer) if value is not None else {}
        except (Unfit, TypeError, ValueError, AttributeError):  # a value of another form than the tool's own
            continue
    return told


def options_of(key: str, value: Any, values: Values, options: Mapping[str, Any], trainer: Trainer) -> Values:
    """Return the options that a key stands for. Raise Unfit for one that does not apply."""
    if convert := trainer.converted.get(key):
        found = convert(value, values)
        if found.keys() - options.keys():
            raise Unfit("hubdpo has no such option", hint="")
        return found
    if key in trainer.renamed and trainer.renamed[key] in options:
        return {trainer.renamed[key]: value}
    if key in trainer.says:
        accepted, otherwise = trainer.says[key]
        if value in accepted:
            return {}
        raise Differs(value, otherwise)
    if key in trainer.refused:
        raise Unfit(trainer.refused[key], hint="")
    if key in trainer.free:
        return {}
    if (name := key.replace("-", "_")) in options:
        return {name: value}
    near = near_option(name, options)
    raise Unfit("hubdpo has no such option", hint=f"did you mean `{near}`?" if near else "")


def _word(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def only(accepted: Mapping[Any, Values], otherwise: str) -> Convert:
    """Take the options of one of the accepted values; raise Differs for another."""

    def convert(value: Any, _: Values) -> Values:
        if not isinstance(value, (list, dict)) and value in accepted:
            return dict(accepted[value])
        raise Differs(value, otherwise)

    return convert


def switch(on: Values) -> Convert:
    """Take these options for true, and none for false."""
    return only({True: on, False: {}}, "true and false are known")
