"""The margin and the weight of each pair, from columns that `prepare --keep` copied into the dataset."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from statistics import fmean

import numpy as np
import numpy.typing as npt

from hubdpo import console
from hubdpo.artefacts.formats.messages import SCORES
from hubdpo.artefacts.manifests.prepare import PrepareManifest
from hubdpo.config import TrainConfig
from hubdpo.data.encoded.rows import Numbers, TokenRows
from hubdpo.data.load import Split
from hubdpo.data.pairs.example import Rejection, number_of
from hubdpo.errors import ConfigError, DataError


def check_value_columns(config: TrainConfig, name: str, dataset: PrepareManifest) -> None:
    """Raise ConfigError if the dataset that was given as `name` lacks a column that the losses read."""
    missing = [column for column in config.value_columns if column not in dataset.columns]
    if missing:
        held = ", ".join(f"`{column}`" for column in dataset.columns) or "none"
        others = [f"--keep {shlex.quote(column)}" for column in config.value_columns if column not in SCORES]
        scores = ["--keep-scores"] if {*SCORES} & {*config.value_columns} else []
        raise ConfigError(
            f"`{name}` has no column `{missing[0]}`; beside the messages it has {held}",
            hint=f"hubdpo prepare SOURCE -o DIR {' '.join([*scores, *others])}",
        )


def with_values(rows: TokenRows, split: Split, config: TrainConfig, name: str) -> TokenRows:
    """Return rows with the `margin` and the `weight` of each pair, as far as the losses read them.

    `split` is that of the dataset which the rows are of, and `name` what to call it. A pair without a number gets the
    margin 0 and the weight 1, which is the mean, and is counted. Raise ConfigError if a column has no number at all,
    DataError for a weight below 0.
    """
    if not config.value_columns or not len(rows):
        return rows
    columns = _numbers(rows, split, config.value_columns, name)
    if config.margin_columns is not None:
        better, *worse = (columns[column] for column in config.margin_columns)
        margins = better - worse[0] if worse else better
        unknown = np.isnan(margins)
        _warn_of(unknown, name, "no margin: 0 is taken")
        _warn_of(margins < 0, name, "a margin below 0: the loss lets the rejected answer be ahead by so much")
        rows = rows.with_column("margin", config.margin_scale * np.where(unknown, 0.0, margins))
    if config.weight_column is not None:
        weights = columns[config.weight_column]
        unknown = np.isnan(weights)
        _warn_of(unknown, name, "no weight: the mean is taken")
        mean = _mean(weights[~unknown], config.weight_column, name)
        rows = rows.with_column("weight", np.where(unknown, 1.0, weights / mean))
    return rows


def _numbers(rows: TokenRows, split: Split, columns: Sequence[str], name: str) -> dict[str, Numbers]:
    """Return the numbers `[pairs]` in columns of a dataset, NaN where a row has none."""
    found: dict[str, list[object]] = {column: [] for column in columns}
    for batch in split.batches(columns, limit=int(rows.row_numbers[-1]) + 1):
        for column, read in found.items():
            read += [row[column] for row in batch]
    numbers = {column: np.array([_number(read[at]) for at in rows.row_numbers]) for column, read in found.items()}
    for column, values in numbers.items():
        if np.isnan(values).all():
            shown = found[column][rows.row_numbers[0]]
            raise ConfigError(
                f"the column `{column}` has no number in the {name} split, but such as {shown!r:.80}",
                hint="name a column of numbers",
            )
    return numbers


def _number(value: object) -> float:
    try:
        return number_of(value)
    except Rejection:
        return np.nan


def _mean(known: Numbers, column: str, name: str) -> float:
    if known.min() < 0:
        raise DataError(
            f"a pair of the {name} split has the weight {known.min():g} in `{column}`: its answers would be exchanged",
            hint="weights are 0 or more; drop such pairs, or exchange their answers",
        )
    if known.max() == 0:
        raise ConfigError(f"all weights in `{column}` are 0 in the {name} split", hint="leave --weight-column out")
    return fmean(known)


def _warn_of(pairs: npt.NDArray[np.bool_], name: str, what: str) -> None:
    if count := int(pairs.sum()):
        console.warn(f"{name} split: {console.counted(count, 'pair')} with {what}")
