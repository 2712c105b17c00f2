"""The margin and the weight of each pair, from columns that `prepare --keep` copied into the dataset."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from statistics import fmean
from typing import Any

from hubdpo import console
from hubdpo.artefacts.formats.messages import SCORES
from hubdpo.artefacts.manifests.prepare import PrepareManifest
from hubdpo.config import TrainConfig
from hubdpo.data.pairs.example import Rejection, number_of
from hubdpo.errors import ConfigError, DataError

Numbers = list[float | None]


def check_value_columns(config: TrainConfig, dataset: PrepareManifest) -> None:
    """Raise ConfigError if the dataset lacks a column that the losses read."""
    missing = [name for name in config.value_columns if name not in dataset.columns]
    if missing:
        held = ", ".join(f"`{name}`" for name in dataset.columns) or "none"
        others = [f"--keep {shlex.quote(name)}" for name in config.value_columns if name not in SCORES]
        scores = ["--keep-scores"] if {*SCORES} & {*config.value_columns} else []
        raise ConfigError(
            f"the dataset has no column `{missing[0]}`; beside the messages it has {held}",
            hint=f"hubdpo prepare SOURCE -o DIR {' '.join([*scores, *others])}",
        )


def set_values(rows: Sequence[dict[str, Any]], config: TrainConfig, split: str) -> None:
    """Give each row its `margin` and its `weight`, as far as the losses read them, from what it has `kept`.

    A pair without a number gets the margin 0 and the weight 1, which is the mean, and is counted. Raise ConfigError if
    a column has no number at all, DataError for a weight below 0.
    """
    kept = [row.pop("kept", {}) for row in rows]
    numbers = {name: _numbers(name, [values[name] for values in kept], split) for name in config.value_columns}
    if not rows:
        return
    if config.margin_columns is not None:
        margins = _margins(*(numbers[name] for name in config.margin_columns))
        _warn_of(sum(margin is None for margin in margins), split, "no margin: 0 is taken")
        _warn_of(
            sum(margin is not None and margin < 0 for margin in margins), split,
            "a margin below 0: the loss lets the rejected answer be ahead by so much",
        )  # fmt: skip
        for row, margin in zip(rows, margins, strict=True):
            row["margin"] = config.margin_scale * (margin or 0.0)
    if config.weight_column is not None:
        weights = numbers[config.weight_column]
        _warn_of(weights.count(None), split, "no weight: the mean is taken")
        mean = _mean(weights, config.weight_column, split)
        for row, weight in zip(rows, weights, strict=True):
            row["weight"] = 1.0 if weight is None else weight / mean


def _numbers(column: str, values: list[Any], split: str) -> Numbers:
    numbers = [_number(value) for value in values]
    if numbers and numbers.count(None) == len(numbers):
        raise ConfigError(
            f"the column `{column}` has no number in the {split} split, but such as {values[0]!r:.80}",
            hint="name a column of numbers",
        )
    return numbers


def _number(value: object) -> float | None:
    try:
        return number_of(value)
    except Rejection:
        return None


def _margins(better: Numbers, worse: Numbers | None = None) -> Numbers:
    if worse is None:
        return better
    return [None if one is None or two is None else one - two for one, two in zip(better, worse, strict=True)]


def _mean(weights: Numbers, column: str, split: str) -> float:
    known = [weight for weight in weights if weight is not None]
    if min(known) < 0:
        raise DataError(
            f"a pair of the {split} split has the weight {min(known):g} in `{column}`: its answers would be exchanged",
            hint="weights are 0 or more; drop such pairs, or exchange their answers",
        )
    if max(known) == 0:
        raise ConfigError(f"all weights in `{column}` are 0 in the {split} split", hint="leave --weight-column out")
    return fmean(known)


def _warn_of(count: int, split: str, what: str) -> None:
    if count:
        console.warn(f"{split} split: {console.counted(count, 'pair')} with {what}")
