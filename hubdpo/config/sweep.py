"""Options of `hubdpo sweep`: those of `train`, of which some may have several values, and the runs that they make."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Self

from pydantic import Field, PrivateAttr, ValidationError

from hubdpo.config.base import Cli, Values, flag_of, item_type
from hubdpo.config.flags import flags, quoted
from hubdpo.config.objective import uses_reference
from hubdpo.config.roles import SHARED, Command, may_have_several
from hubdpo.config.train import TrainConfig
from hubdpo.config.wrong_value import several_numbers
from hubdpo.errors import ConfigError

SWEPT = tuple(name for name in TrainConfig.model_fields if may_have_several(TrainConfig, name))
LONGEST_NAME = 100


class Point(NamedTuple):
    """One run of a sweep: the name of its folder, the values that are its own, and all its options."""

    name: str
    values: dict[str, Any]
    config: TrainConfig


class SweepConfig(TrainConfig):
    """The options that the runs share; where some have several values, those of the first run, see `points`."""

    several, panel = SWEPT, "Run"

    output_dir: Command[Annotated[Path, Cli(short="-o", metavar="DIR")]] = Field(
        description="Folder to write: sweep.json, a plot, and a run folder for each combination of values."
    )
    resume: Command[bool] = Field(
        False, description="Go on with the sweep in the folder: finished runs stay, others resume or start."
    )
    extend: Command[bool] = Field(
        False, description="Train the runs in the folder further, up to --max-steps or --num-train-epochs."
    )
    _points: list[Point] = PrivateAttr(default_factory=list)

    @property
    def points(self) -> list[Point]:
        """The runs: every combination of the values, the last option changing first."""
        return self._points

    @classmethod
    def _validated(cls, values: Values, origins: Mapping[str, str]) -> Self:
        given = {name: _given(name, value) for name, value in values.items()}
        swept = [name for name in TrainConfig.model_fields if len(given.get(name, ())) > 1]
        common = {name: several[0] for name, several in given.items() if name not in swept}
        if not swept:
            raise ConfigError(
                "no option has several values, so there is nothing to sweep; `hubdpo train` trains a single run",
                hint="--beta 0.05 0.1",
            )
        if common.get("reference") == "online":
            raise ConfigError(
                "the runs of a sweep share reference log-probs that are computed once", hint="leave `--reference` out"
            )
        points: list[Point] = []
        for combination in itertools.product(*(given[name] for name in swept)):
            point = cls._point(common, dict(zip(swept, combination, strict=True)), origins)
            if point.name in {other.name for other in points}:
                raise ConfigError(f"two runs are the same, `{point.name}`", hint="give each value once")
            points.append(point)
        first = points[0].config
        places = {"output_dir": first.output_dir.parent, "run_name": common.get("run_name")}
        config = cls.model_construct(first.model_fields_set, **{**dict(first), **places})
        config._points = points
        return config

    @classmethod
    def _point(cls, common: Values, own: Values, origins: Mapping[str, str]) -> Point:
        """Validate the options of one run. Raise ConfigError that names the run."""
        values = {**common, **own}
        losses = values.get("loss_type", ["sigmoid"])
        if uses_reference([losses] if isinstance(losses, str) else losses):
            values["reference"] = "cached"
        try:
            config = TrainConfig.model_validate(values)
        except ValidationError as problem:
            error, place = cls._invalid(problem, origins)[0], problem.errors()[0]["loc"]
            if place and place[0] not in own:
                raise error from None
            raise ConfigError(f"{error.message}; this is the run `{name_of(own)}`", hint=error.hint) from None
        own = {option: getattr(config, option) for option in own}
        name = name_of(own)
        places = {"output_dir": config.output_dir / name, "run_name": config.run_name and f"{config.run_name}-{name}"}
        return Point(name, own, config.model_copy(update=places))


def _given(name: str, value: object) -> list[Any]:
    """Return the values of an option, each as one run takes it.

    Where one run takes a list, such as the losses that it sums, a text names its items with commas between them;
    elsewhere `0.05,0.1` are two values. Raise ConfigError for several values of an option that the runs share.
    """
    takes_list = item_type(TrainConfig.model_fields[name].annotation) is not None
    if name not in SWEPT:
        if takes_list or not isinstance(value, (list, tuple)):
            return [value]
        if len(value) == 1:
            return [*value]
        why = f"whose runs share the {SHARED[name]}" if name in SHARED else "as it does not change what is learned"
        raise ConfigError(
            f"`{flag_of(name)}` has one value in a sweep, {why}",
            hint=f"{flag_of(name)} {quoted(value[0])}" if value else f"leave `{flag_of(name)}` out",
        )
    values: list[Any] = [*value] if isinstance(value, (list, tuple)) else [value]
    if not takes_list:
        values = [part for one in values for part in (isinstance(one, str) and several_numbers(one)) or [one]]
    if not values:
        raise ConfigError(f"`{flag_of(name)}` has no value", hint=f"leave `{flag_of(name)}` out")
    return [one.split(",") if takes_list and isinstance(one, str) else one for one in values]


def name_of(values: Mapping[str, object]) -> str:
    """Return the name of a run's folder: its own options and their values, as one word that every disk takes."""
    name = "_".join(f"{option.replace('_', '-')}-{_word(value)}" for option, value in values.items())
    if len(name) <= LONGEST_NAME:
        return name
    return f"{name[:LONGEST_NAME]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def shown(value: object) -> str:
    """Return a value as a cell of a table, or as the word of a command line."""
    if isinstance(value, dict):
        return json.dumps(value, sort_keys=True)
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _word(value: object) -> str:
    if isinstance(value, dict):
        return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:8]
    text = "+".join(map(str, value)) if isinstance(value, list) else str(value)
    return re.sub(r"[^\w.+-]+", "-", text.lower() if isinstance(value, bool) else text)


def command(config: SweepConfig) -> str:
    """Return the command that goes on with a sweep, or where no command line says it, what to do."""
    points = config.points
    swept = {
        option: [*{shown(point.values[option]): point.values[option] for point in points}.values()]
        for option in points[0].values
    }
    if any(isinstance(value, (bool, type(None))) for several in swept.values() for value in several):
        return "the same command with `--resume`"
    own = {"resume", "extend", "dry_run", "output_dir", "run_name", "reference", *swept}
    common = {**points[0].config.model_dump(mode="json", exclude=own), "run_name": config.run_name}
    words = [
        f"{flag_of(option)} {' '.join(quoted(shown(value)) for value in several)}" for option, several in swept.items()
    ]
    common["output_dir"] = str(config.output_dir)
    return " ".join(["hubdpo sweep", *flags(common, TrainConfig), *words, "--extend" if config.extend else "--resume"])
