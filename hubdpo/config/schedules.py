"""Names and arguments of learning rate schedules, checked before a model is loaded."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated

from pydantic import BeforeValidator

from hubdpo.config.base import Cli, Unfit
from hubdpo.config.name_values import json_object

_ON_PLATEAU = ("mode", "factor", "patience", "threshold", "threshold_mode", "cooldown", "min_lr", "eps")
_GREEDY = (*_ON_PLATEAU, "warmup", "max_lr", "verbose", "smooth", "window_size", "reset_start")

# transformers.trainer_utils.SchedulerType, and the arguments of each schedule except the numbers of steps
# (transformers 5.18); copied because importing transformers takes seconds.
SCHEDULES: dict[str, tuple[str, ...]] = {
    "linear": (),
    "cosine": ("num_cycles",),
    "cosine_with_restarts": ("num_cycles",),
    "polynomial": ("lr_end", "power"),
    "constant": (),
    "constant_with_warmup": (),
    "inverse_sqrt": ("timescale",),
    "reduce_lr_on_plateau": _ON_PLATEAU,
    "cosine_with_min_lr": ("num_cycles", "min_lr", "min_lr_rate"),
    "cosine_warmup_with_min_lr": ("num_cycles", "min_lr", "min_lr_rate", "warmup_lr_rate"),
    "warmup_stable_decay": (
        "num_decay_steps", "num_stable_steps", "warmup_type", "decay_type", "min_lr_ratio", "num_cycles",
    ),
    "greedy": _GREEDY,
}  # fmt: skip

NEEDED: dict[str, dict[str, float]] = {
    "cosine_with_min_lr": {"min_lr_rate": 0.1, "min_lr": 5e-7},
    "cosine_warmup_with_min_lr": {"min_lr_rate": 0.1, "min_lr": 5e-7},
    "warmup_stable_decay": {"num_decay_steps": 100},
}
"""Exactly one of these arguments is required; the values are suggestions for the hint."""

BY_EVALUATION = frozenset({"reduce_lr_on_plateau", "greedy"})
"""Schedules that react to the loss on the test split."""


ScheduleArguments = Annotated[
    dict[str, float | int | str] | None,
    BeforeValidator(lambda value: json_object(value, hint="--lr-scheduler-kwargs '{\"min_lr_rate\": 0.1}'")),
    Cli(metavar="JSON"),
]


def check_schedule(name: str, arguments: Mapping[str, object] | None) -> None:
    """Raise Unfit when a known schedule lacks a required argument or got one that it does not take."""
    given, accepted, needed = arguments or {}, SCHEDULES[name], NEEDED.get(name, {})
    first = next(iter(needed.items()), None)
    for key in given:
        if key not in accepted:
            raise Unfit(
                f"the schedule `{name}` takes no `{key}`; it takes {_words(accepted) if accepted else 'no arguments'}",
                hint=_pasted(dict([first])) if first else "leave `--lr-scheduler-kwargs` out",
            )
    if first and len(found := [key for key in needed if key in given]) != 1:
        raise Unfit(
            f"the schedule `{name}` needs {'one of ' if len(needed) > 1 else ''}{_words(tuple(needed))}"
            + (f", and has {len(found)} of them" if found else ""),
            hint=_pasted({**{key: value for key, value in given.items() if key not in needed}, first[0]: first[1]}),
        )


def _words(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _pasted(arguments: Mapping[str, object]) -> str:
    return f"--lr-scheduler-kwargs '{json.dumps(arguments)}'"
